#!/usr/bin/env python3
"""bench.py - media over HTTP: the node of a mounted volume beside nginx over a plain directory.

    bench.py --wamedia target/release/wamedia [--dir DIR] [--rounds 5] [--json OUT]

Both are on the file system of DIR, both answer plaintext HTTP/1.1 on 127.0.0.1, and the same client, with connections
that are kept, asks them in turn in every round. Every upload has its own name and every answer its length compared;
of every cell one download is compared byte by byte.

    node         POST /v1/media and GET /v1/media/ID of `wamedia mount --listen`; an upload is durable when answered
    nginx        PUT and GET over a directory (ngx_http_dav_module); nginx never syncs
    nginx+fsync  the same, and the client syncs file and directory before it counts the upload as done

Beside the speed stands the processor time of the server, which depends less on what else the machine does. Then the
peak of the daemon's memory with 200 uploads of 16 MiB at a time. Python 3.11 standard library, Debian's nginx.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"100 KiB": 100 * KIB, "5 MiB": 5 * MIB, "64 MiB": 64 * MIB}
CONNECTIONS = (1, 8)
# How many requests of each size one cell makes, over all its connections.
REQUESTS = {"100 KiB": 800, "5 MiB": 64, "64 MiB": 8}
CROWD, CROWD_BYTES = 200, 16 * MIB
PATIENCE = 30
# ext4 without a journal looks in vain for an inode that was not removed within the last 35 s.
SETTLE = 40

NGINX = """
daemon off;
user root;
worker_processes 2;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    client_body_temp_path {dir}/body;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            root {dir}/files;
            dav_methods PUT DELETE;
            create_full_put_path on;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(what, check):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        got = check()
        if got:
            return got
        time.sleep(0.02)
    sys.exit(f"{what}: not there after {PATIENCE} s")


class Connection:
    """HTTP/1.1 over one kept connection, with as little work as can be."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(MIB)

    def ask(self, method, path, headers, body=b"", keep=False):
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if len(body) <= 256 * KIB:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)
        return self.answer(keep)

    def answer(self, keep):
        got = b""
        while b"\r\n\r\n" not in got:
            piece = self.socket.recv(64 * KIB)
            if not piece:
                sys.exit("the connection was closed in the middle of an answer")
            got += piece
        head, rest = got.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        left = int(headers.get("content-length", 0)) - len(rest)
        kept = bytearray(rest) if keep else None
        while left > 0:
            count = self.socket.recv_into(self.buffer, min(left, len(self.buffer)))
            if count == 0:
                sys.exit("the connection was closed in the middle of a body")
            if keep:
                kept += self.buffer[:count]
            left -= count
        return status, int(headers.get("content-length", 0)), kept


def processor_time(pid):
    """Seconds of processor time that a process and its children have used."""
    total = 0
    for one in [pid, *map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


class Target:
    def __init__(self):
        self.made = []

    def clear(self):
        connection = Connection(self.port)
        for path in self.made:
            status, *_ = connection.ask("DELETE", path, self.headers)
            if status not in (200, 204):
                sys.exit(f"removal: {status}")
        self.made = []


class Node(Target):
    name = "node"

    def __init__(self, wamedia, where):
        super().__init__()
        self.dir, self.port = where, free_port()
        store, self.mnt, key = where / "store", where / "mnt", where / "key"
        self.mnt.mkdir(parents=True)
        key.write_text(os.urandom(32).hex())
        key.chmod(0o600)
        env = {**os.environ, "WAMEDIA_RUNTIME_DIR": ""}
        call = lambda *args: subprocess.run([wamedia, *map(str, args)], check=True, env=env, capture_output=True, text=True)
        call("init", "--key-file", key, store)
        told = call("token", "create", "--key-file", key, "--role", "user", "--name", "bench", store)
        self.headers = {"Authorization": f"Bearer {told.stdout.split()[-1]}", "Content-Type": "application/octet-stream"}
        self.daemon = subprocess.Popen(
            [wamedia, "mount", "--log", "error", "--key-file", key, "--listen", f"127.0.0.1:{self.port}",
             "--requests-per-second", "1000000", store, self.mnt], env=env, stdout=subprocess.DEVNULL)
        wait_for("the node", self.answers)
        self.wamedia = wamedia

    def answers(self):
        try:
            return Connection(self.port).ask("GET", "/healthz", {})[0] == 200
        except OSError:
            return False

    def put(self, connection, name, body):
        status, _, answer = connection.ask("POST", "/v1/media", self.headers, body, keep=True)
        if status != 201:
            sys.exit(f"upload: {status} {answer!r}")
        return "/v1/media/" + json.loads(bytes(answer))["media"][0]["id"]

    def peak(self, reset=False):
        """The daemon's peak of resident memory in bytes, since the last reset."""
        proc = pathlib.Path(f"/proc/{self.daemon.pid}")
        if reset:
            (proc / "clear_refs").write_text("5")
        line = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * KIB

    def end(self):
        subprocess.run([self.wamedia, "umount", self.mnt], check=True)
        self.daemon.wait(PATIENCE)


class Nginx(Target):
    headers = {}

    def __init__(self, where, with_sync):
        super().__init__()
        self.dir, self.port, self.with_sync = where, free_port(), with_sync
        self.name = "nginx+fsync" if with_sync else "nginx"
        (where / "files").mkdir(parents=True)
        config = where / "nginx.conf"
        config.write_text(NGINX.format(dir=where, port=self.port))
        self.daemon = subprocess.Popen(["nginx", "-c", config, "-e", where / "nginx.log"])
        wait_for("nginx", self.answers)

    def answers(self):
        try:
            return Connection(self.port).ask("GET", "/", {})[0] > 0
        except OSError:
            return False

    def put(self, connection, name, body):
        status, *_ = connection.ask("PUT", f"/{name}", {}, body)
        if status != 201:
            sys.exit(f"upload: {status}")
        if self.with_sync:
            for path in (self.dir / "files" / name, self.dir / "files"):
                file = os.open(path, os.O_RDONLY)
                os.fsync(file)
                os.close(file)
        return f"/{name}"

    def end(self):
        self.daemon.send_signal(signal.SIGQUIT)
        self.daemon.wait(PATIENCE)


def in_processes(count, work):
    """Runs `work(nth)` in `count` processes that begin at the same time; gives seconds and what each told."""
    go_read, go_write = os.pipe()
    children = []
    for nth in range(count):
        told_read, told_write = os.pipe()
        ready_read, ready_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go_write)
                do = work(nth)
                os.write(ready_write, b".")
                os.read(go_read, 1)
                told = json.dumps(do()).encode()
                os.write(told_write, b".")
                with os.fdopen(told_write, "wb") as out:
                    out.write(told)
                status = 0
            finally:
                os._exit(status)
        os.close(told_write)
        os.close(ready_write)
        if os.read(ready_read, 1) != b".":
            sys.exit("a client failed before it began")
        os.close(ready_read)
        children.append((pid, told_read))
    os.close(go_read)
    begun = time.monotonic()
    os.close(go_write)
    for _, told_read in children:
        if os.read(told_read, 1) != b".":
            sys.exit("a client failed")
    seconds = time.monotonic() - begun
    told = []
    for pid, told_read in children:
        with os.fdopen(told_read, "rb") as out:
            told.append(json.loads(out.read()))
        os.waitpid(pid, 0)
    return seconds, told


def cell(target, size, connections, prefix):
    """Uploads, then downloads; of both MB/s, and the server's processor time in seconds per GB."""
    spent = [processor_time(target.daemon.pid)]
    body, each = os.urandom(SIZES[size]), max(1, REQUESTS[size] // connections)

    def upload(nth):
        connection = Connection(target.port)
        return lambda: [target.put(connection, f"{prefix}-{nth}-{i}", body) for i in range(each)]

    up, told = in_processes(connections, upload)
    spent.append(processor_time(target.daemon.pid))

    def download(nth):
        connection = Connection(target.port)

        def do():
            for path in told[nth]:
                status, length, _ = connection.ask("GET", path, target.headers)
                if (status, length) != (200, len(body)):
                    sys.exit(f"download: {status}, {length} bytes")
        return do

    down, _ = in_processes(connections, download)
    spent.append(processor_time(target.daemon.pid))
    connection = Connection(target.port)
    _, _, got = connection.ask("GET", told[-1][-1], target.headers, keep=True)
    if hashlib.sha256(got).digest() != hashlib.sha256(body).digest():
        sys.exit("the bytes are not those that were uploaded")
    target.made += [path for paths in told for path in paths]
    amount = len(body) * each * connections / 1e6
    costs = [(after - before) / amount * 1000 for before, after in zip(spent, spent[1:])]
    return {"up": (amount / up, costs[0]), "down": (amount / down, costs[1])}


def crowd(node):
    """The daemon's memory before, and at its peak with many uploads at a time, and how many were under way together."""
    body, start = os.urandom(CROWD_BYTES), threading.Barrier(CROWD)
    before, failures, paths = node.peak(reset=True), [], []

    def one(nth):
        try:
            connection = Connection(node.port)
            start.wait()
            paths.append(node.put(connection, f"crowd-{nth}", body))
        except (Exception, SystemExit) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=one, args=(nth,)) for nth in range(CROWD)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"{len(failures)} of {CROWD} uploads failed: {failures[0]}")
    seconds = time.monotonic() - begun
    peak = node.peak()
    node.made += paths
    node.clear()
    return {"before": before, "peak": peak, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wamedia", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--dir", default=None, help="where both lie [default: a temporary directory]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", action="append", choices=SIZES, help="only this one; can be repeated")
    parser.add_argument("--no-crowd", action="store_true")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()
    where = pathlib.Path(tempfile.mkdtemp(prefix="wamedia-bench-", dir=args.dir))
    where.chmod(0o755)
    started = []
    figures, load = {}, []
    try:
        for make in (lambda: Node(args.wamedia, where / "node"), lambda: Nginx(where / "nginx", False),
                     lambda: Nginx(where / "synced", True)):
            started.append(make())
        for number in range(args.rounds):
            load.append(os.getloadavg()[0])
            turn = started[number % 3:] + started[:number % 3]
            for size in args.size or SIZES:
                for connections in CONNECTIONS:
                    for target in turn:
                        got = cell(target, size, connections, f"r{number}-{size.replace(' ', '')}-{connections}")
                        for way, value in got.items():
                            figures.setdefault((way, size, connections), {}).setdefault(target.name, []).append(value)
            for target in started:
                target.clear()
            time.sleep(SETTLE)
        print(f"load before each round: {' '.join(f'{one:.1f}' for one in load)}\n")
        print("| what | size | connections | node MB/s | nginx MB/s | nginx+fsync MB/s | x nginx | x nginx+fsync |"
              " node s/GB | nginx s/GB |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for (way, size, connections), by in figures.items():
            speed = {name: statistics.median(rate for rate, _ in values) for name, values in by.items()}
            cost = {name: statistics.median(cost for _, cost in values) for name, values in by.items()}
            ratio = {name: statistics.median(a / b for (a, _), (b, _) in zip(by["node"], by[name])) for name in by}
            is_up = way == "up"
            print(f"| {way} | {size} | {connections} | {speed['node']:.0f} | {speed['nginx']:.0f} |"
                  f" {format(speed['nginx+fsync'], '.0f') if is_up else '-'} | {ratio['nginx']:.2f} |"
                  f" {format(ratio['nginx+fsync'], '.2f') if is_up else '-'} | {cost['node']:.2f} | {cost['nginx']:.2f} |")
        result = {"load": load, "figures": [[*key, by] for key, by in figures.items()]}
        if not args.no_crowd:
            result["crowd"] = got = crowd(started[0])
            print(f"\n{CROWD} uploads of {CROWD_BYTES // MIB} MiB at a time: peak of the daemon {got['peak'] / MIB:.0f} MiB,"
                  f" before {got['before'] / MIB:.0f} MiB, in {got['seconds']:.1f} s")
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(result, indent=1))
    finally:
        for target in started:
            target.end()
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
