#!/usr/bin/env python3
"""What each operation costs the daemon: requests, system calls, bytes moved, flushes, and where its processor time goes.

For each piece of work a fresh encrypted volume is mounted, the work is done through the mount, and meanwhile `perf stat`
counts the requests of the kernel's FUSE and the daemon's system calls (tracepoints), /proc tells the bytes that went through
those calls, and `perf record` samples where the processor time was spent. All is told per operation, or per MiB of content for
the large ones. Processor time is in microseconds: virtual machines often count no cycles.

It needs root, perf, tracefs and room for about 2 GB. Everything it makes is removed at the end.

Example:
  benches/costs.py --wamedia target/release/wamedia --base /srv/scratch
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
LARGE = 256 * MIB
SMALL_FILES = 10000
MEDIA = 400
EXPIRED = 1000
RANDOM_READS = 4000
TICKS = os.sysconf("SC_CLK_TCK")
# Bytes that do not compress.
NOISE = random.Random(7).randbytes(8 * MIB)
FLUSHES = ("fsync", "fdatasync", "sync_file_range", "syncfs")
# Where a sample belongs: the first pattern that fits its symbol; samples of the kernel have `[k]`.
PLACES = [
    ("cipher", r"chacha|poly1305|hchacha"),
    ("digest", r"sha2|sha256|xxh"),
    ("index", r"sled|wamedia::index|crc32"),
    ("memory", r"malloc|_int_free|cfree|realloc|unlink_chunk|page_fault|clear_page|folio_add|alloc_pages|zap_|madvise|mm_fault|free_unref|lru_add|charge"),
    ("copies", r"memmove|memcpy|memset|copy_to_iter|copy_from|copy_page|rep_movs|__pi_"),
    ("waking", r"finish_task_switch|spin_unlock_irqrestore|futex|schedule|try_to_wake|sched_|wake_up|enqueue|dequeue|select_task|pv_queued|ttwu|irqentry"),
    ("fuse", r"fuse|fuser"),
    ("store", r"ext4|jbd2|xfs|filemap|block|bio|blk|folio|xas_|pagecache|iomap|writeback|inode|dentry|lookup|path"),
]


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


class Volume:
    """A store and its mount."""

    def __init__(self, wamedia, base, cipher):
        self.wamedia, self.dir = wamedia, Path(tempfile.mkdtemp(prefix="wamedia-costs.", dir=base))
        self.store, self.mnt, self.key = self.dir / "store", self.dir / "mnt", self.dir / "key"
        self.mnt.mkdir()
        key = [] if cipher in ("none", "passed") else ["--key-file", str(self.key)]
        if key:
            self.key.touch(0o600)
            self.key.write_text(os.urandom(32).hex())
        self.options = key + (["-o", "pass_through"] if cipher == "passed" else [])
        run(wamedia, "init", *(key or ["--cipher", "none"]), str(self.store))
        self.daemon = None
        self.mount()

    def mount(self):
        self.daemon = subprocess.Popen(
            [self.wamedia, "mount", "--log", "error", *self.options, str(self.store), str(self.mnt)], stdout=subprocess.DEVNULL
        )
        while not os.path.ismount(self.mnt):
            if self.daemon.poll() is not None:
                sys.exit("costs.py: the volume could not be mounted")
            time.sleep(0.01)

    def unmount(self):
        if self.daemon:
            run("umount", str(self.mnt))
            self.daemon.wait()
            self.daemon = None

    def remount(self, cold):
        self.unmount()
        if cold:
            drop_caches()
        self.mount()

    def rest(self):
        """Waits until the daemon has nothing to do."""
        calm = 0
        while calm < 5:
            before = self.ticks()
            time.sleep(0.2)
            calm = calm + 1 if self.ticks() == before else 0

    def ticks(self):
        return sum(map(int, Path(f"/proc/{self.daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    def times(self):
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return [int(fields[11]) * 1e6 / TICKS, int(fields[12]) * 1e6 / TICKS]

    def moved(self):
        text = Path(f"/proc/{self.daemon.pid}/io").read_text()
        found = dict(re.findall(r"(\w+): (\d+)", text))
        return [int(found["rchar"]), int(found["wchar"])]

    def peak(self):
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.daemon.pid}/status").read_text())[1]) / 1024

    def close(self):
        try:
            self.unmount()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


def events():
    known = subprocess.run(["perf", "list", "--raw-dump", "tracepoint"], capture_output=True, text=True).stdout.split()
    wanted = [f"syscalls:sys_enter_{name}" for name in (
        "read", "writev", "pread64", "preadv", "pwrite64", "pwritev", "openat", "unlink", "unlinkat", "fsync", "fdatasync",
        "sync_file_range", "futex", "sched_yield", "getrandom", "mprotect", "madvise", "fadvise64", "fstatfs", "statx", "newfstat",
        "fallocate", "rename", "close")]
    return ["fuse:fuse_request_send", "raw_syscalls:sys_enter"] + [name for name in wanted if name in known]


def counted(volume, work, names):
    """Does the work; gives what was counted, the daemon's microseconds in user and kernel, its bytes, and the wall clock."""
    with tempfile.NamedTemporaryFile("r") as told:
        daemon = [n for n in names if not n.startswith("fuse:")]
        stat = subprocess.Popen(["perf", "stat", "-x", ";", "-o", told.name, "-e", ",".join(daemon), "-p", str(volume.daemon.pid)])
        with tempfile.NamedTemporaryFile("r") as requests:
            fuse = subprocess.Popen(["perf", "stat", "-x", ";", "-o", requests.name, "-e", "fuse:fuse_request_send", "-a"])
            time.sleep(0.3)
            times, moved, start = volume.times(), volume.moved(), time.monotonic()
            work()
            wall = time.monotonic() - start
            spent = [b - a for a, b in zip(times, volume.times())]
            bytes_ = [b - a for a, b in zip(moved, volume.moved())]
            for process in (stat, fuse):
                process.send_signal(signal.SIGINT)
                process.wait()
            lines = told.read() + requests.read()
    counts = {}
    for line in lines.splitlines():
        fields = line.split(";")
        if len(fields) > 2 and fields[0].isdigit():
            counts[fields[2].rsplit(":", 1)[-1].replace("sys_enter_", "")] = int(fields[0])
    counts["all calls"] = int(next((l.split(";")[0] for l in lines.splitlines() if "raw_syscalls:sys_enter" in l), 0))
    return counts, spent, bytes_, wall


def sampled(volume, work, dir_):
    """Does the work; gives the shares of the places where the daemon's processor time went."""
    data = dir_ / "perf.data"
    record = subprocess.Popen(["perf", "record", "-q", "-F", "1999", "-o", str(data), "-p", str(volume.daemon.pid)])
    time.sleep(0.3)
    work()
    record.send_signal(signal.SIGINT)
    record.wait()
    told = subprocess.run(["perf", "report", "-i", str(data), "--stdio", "--sort", "sym", "-g", "none"], capture_output=True, text=True)
    shares = collections.Counter()
    for line in told.stdout.splitlines():
        found = re.match(r"\s+([\d.]+)%\s+(.+)", line)
        if found:
            place = next((name for name, pattern in PLACES if re.search(pattern, found[2])), "else")
            shares[place] += float(found[1])
    data.unlink(missing_ok=True)
    return shares


def write_file(path, size, sync=False):
    with open(path, "wb", 0) as file:
        for at in range(0, size, MIB):
            file.write(memoryview(NOISE)[at % (4 * MIB):][: min(MIB, size - at)])
        if sync:
            os.fsync(file.fileno())


def read_file(path, step=MIB):
    with open(path, "rb", 0) as file:
        buffer = bytearray(step)
        while file.readinto(buffer):
            pass


def random_reads(path, size):
    chosen = random.Random(3)
    file = os.open(path, os.O_RDONLY)
    for _ in range(RANDOM_READS):
        os.pread(file, size, chosen.randrange(LARGE // size) * size)
    os.close(file)


def media_sizes():
    chosen = random.Random(5)
    return [int(min(16 * MIB, chosen.lognormvariate(11.9, 1.2))) for _ in range(MEDIA)]


class Work:
    """One piece of work: what it starts from, what is measured, and how many operations that is."""

    def __init__(self, name, unit, count, do, before=lambda volume: None, cipher="chacha"):
        self.name, self.unit, self.count, self.do, self.before, self.cipher = name, unit, count, do, before, cipher


def make_large(volume):
    write_file(volume.mnt / "large", LARGE, sync=True)
    volume.remount(cold=False)


def make_small(volume, expired=0):
    (volume.mnt / "d").mkdir()
    create_small(volume)
    old = time.time() - 40 * 86400
    for nth in range(expired):
        os.utime(volume.mnt / f"d/{nth * (SMALL_FILES // expired):06}.jpg", (old, old))
    volume.rest()
    volume.remount(cold=True)


def create_small(volume):
    directory = volume.mnt / "d"
    directory.mkdir(exist_ok=True)
    for nth in range(SMALL_FILES):
        with open(f"{directory}/{nth:06}.jpg", "wb", 0) as file:
            file.write(NOISE[nth : nth + 1024])


def remove_small(volume):
    for nth in range(SMALL_FILES):
        os.unlink(f"{volume.mnt}/d/{nth:06}.jpg")


def ingest(volume, sync):
    for nth, size in enumerate(media_sizes()):
        write_file(volume.mnt / f"m{nth}", size, sync)


def make_media(volume):
    ingest(volume, False)
    volume.rest()
    volume.remount(cold=False)


def read_media(volume):
    for nth in range(MEDIA):
        read_file(volume.mnt / f"m{nth}")


def listing(path, stat=False):
    for entry in os.scandir(path):
        if stat:
            entry.stat(follow_symlinks=False)


def works(wamedia):
    mib, total = LARGE // MIB, sum(media_sizes())
    return [
        Work("write, sync at the end", "MiB", mib, lambda v: write_file(v.mnt / "large", LARGE, True)),
        Work("read, store in cache", "MiB", mib, lambda v: read_file(v.mnt / "large"), make_large),
        Work("read again", "MiB", mib, lambda v: read_file(v.mnt / "large"), lambda v: (make_large(v), read_file(v.mnt / "large"))),
        Work("`--cipher none`: read, store in cache", "MiB", mib, lambda v: read_file(v.mnt / "large"), make_large, "none"),
        Work("the same with `-o pass_through`", "MiB", mib, lambda v: read_file(v.mnt / "large"), make_large, "passed"),
        Work("random 4 KiB, store in cache", "read", RANDOM_READS, lambda v: random_reads(v.mnt / "large", 4096), make_large),
        Work("random 64 KiB, store in cache", "read", RANDOM_READS, lambda v: random_reads(v.mnt / "large", 65536), make_large),
        Work(f"ingest of media ({total // MEDIA // 1024} KiB)", "file", MEDIA, lambda v: ingest(v, False)),
        Work("the same, each synced", "file", MEDIA, lambda v: ingest(v, True)),
        Work("reading them back", "MiB", total // MIB, read_media, make_media),
        Work("removing them", "file", MEDIA, lambda v: [os.unlink(v.mnt / f"m{n}") for n in range(MEDIA)], make_media),
        Work("small files: create", "file", SMALL_FILES, create_small),
        Work("small files: list, cold", "file", SMALL_FILES, lambda v: listing(v.mnt / "d"), make_small),
        Work("small files: list and stat, cold", "file", SMALL_FILES, lambda v: listing(v.mnt / "d", True), make_small),
        Work("small files: remove", "file", SMALL_FILES, remove_small, make_small),
        Work("`.expired`: list, cold", "file", EXPIRED, lambda v: listing(v.mnt / ".expired"), lambda v: make_small(v, EXPIRED)),
        Work("`.expired`: purge, cold", "file", EXPIRED,
             lambda v: run(wamedia, "expired", "purge", "--yes", str(v.mnt)), lambda v: make_small(v, EXPIRED)),
    ]


def measure(work, args):
    results = []
    for how in (counted, sampled):
        volume = Volume(args.wamedia, args.base, work.cipher)
        try:
            work.before(volume)
            volume.rest()
            extra = events() if how is counted else volume.dir
            results.append(how(volume, lambda: work.do(volume), extra))
            if how is counted:
                peak = volume.peak()
        finally:
            volume.close()
    (counts, spent, moved, wall), shares = results
    per = lambda number: number / work.count
    calls = {name: per(count) for name, count in counts.items() if name not in ("fuse_request_send", "all calls", "sys_enter")}
    return {
        "work": work.name, "unit": work.unit, "wall_us": per(wall * 1e6), "user_us": per(spent[0]), "kernel_us": per(spent[1]),
        "requests": per(counts.get("fuse_request_send", 0)), "calls": per(counts["all calls"]),
        "flushes": sum(calls.get(name, 0) for name in FLUSHES), "read_bytes": per(moved[0]), "written_bytes": per(moved[1]),
        "by_call": calls, "places": dict(shares), "peak_mib": peak,
    }


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def table(results):
    print("| work | per | wall us | user us | kernel us | requests | system calls | flushes | KiB in | KiB out | most calls | where the time goes |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|")
    for r in results:
        most = sorted(r["by_call"].items(), key=lambda item: -item[1])[:5]
        places = sorted(r["places"].items(), key=lambda item: -item[1])[:5]
        cells = [r["work"], r["unit"], *(number(r[k]) for k in ("wall_us", "user_us", "kernel_us", "requests", "calls", "flushes")),
                 number(r["read_bytes"] / 1024), number(r["written_bytes"] / 1024),
                 ", ".join(f"{name} {number(count)}" for name, count in most if count >= 0.005),
                 ", ".join(f"{name} {share:.0f} %" for name, share in places if share >= 1)]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wamedia", required=True, help="the binary")
    parser.add_argument("--base", default=None, help="where the stores are made (default: the temporary folder)")
    parser.add_argument("--only", default="", help="only work whose name contains this")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()
    args.wamedia = os.path.abspath(args.wamedia)
    results = []
    for work in works(args.wamedia):
        if args.only in work.name:
            print(f"{work.name} ...", file=sys.stderr)
            results.append(measure(work, args))
    table(results)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
