#!/usr/bin/env python3
"""bench.py - the same file work on several mounted file systems, in turn.

    bench.py list                          targets and workloads known here
    bench.py run [options]                 measure; prints a table, writes JSON
    bench.py show RESULT.json [...]        the tables of earlier results again

Targets are measured in turn inside each round (A B C, B C A, ...), each on a
new empty store, and every figure is the median over the rounds; ratios are
taken round by round first, so a drift of the machine's speed cancels out.

Python 3.11 standard library only, plus cc, fio, and the peers' own packages.
"""
import argparse
import datetime
import json
import mmap
import os
import pathlib
import platform
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PASSWORD = "bench-password-0123456789"
MB = 1_000_000
SEED = 7

# --------------------------------------------------------------------------
# Targets
# --------------------------------------------------------------------------
# kind: native       the plain directory everything is compared with
#       passthrough  FUSE without encryption: the floor of a FUSE program
#       encrypted    a peer; the best of these is "the best peer"
#       custom       a program given on the command line
# Every command is a list; {store} {mnt} {tmp} are replaced. `stdin` is fed to
# init and mount. `light` makes a store whose password is cheap to check: it is
# used where mounting is not what is measured, because every cold figure needs
# a new mount. `durable` False: its fsync reaches no disk (seen with strace), so
# it is never the best peer of a figure that ends with fsync. `daemon` says that
# a process serves the mount.


def peer(kind, mount=None, init=None, light=None, stdin=None, umount=None, env=None, version=None, durable=True, note=""):
    return dict(kind=kind, durable=durable, mount=mount, init=init, light=light or init, stdin=stdin, umount=umount or ["fusermount3", "-u", "{mnt}"],
                env=env or {}, version=version, note=note, daemon=mount is not None)


PEERS = {
    "native": peer("native", note="a plain directory on the file system that also holds every store"),
    "bindfs": peer("passthrough", ["bindfs", "{store}", "{mnt}"], version=["bindfs", "--version"]),
    "mergerfs": peer("passthrough", ["mergerfs", "{store}", "{mnt}"], version=["mergerfs", "--version"]),
    "gocryptfs": peer("encrypted", ["gocryptfs", "-q", "-passfile", "{tmp}/pw", "{store}", "{mnt}"],
                      init=["gocryptfs", "-q", "-init", "-passfile", "{tmp}/pw", "{store}"],
                      light=["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", "{tmp}/pw", "{store}"],
                      version=["gocryptfs", "-version"], note="AES-256-GCM, the default"),
    "gocryptfs-xchacha": peer("encrypted", ["gocryptfs", "-q", "-passfile", "{tmp}/pw", "{store}", "{mnt}"],
                              init=["gocryptfs", "-q", "-init", "-xchacha", "-passfile", "{tmp}/pw", "{store}"],
                              light=["gocryptfs", "-q", "-init", "-xchacha", "-scryptn", "10", "-passfile", "{tmp}/pw", "{store}"],
                              version=["gocryptfs", "-version"], note="XChaCha20-Poly1305"),
    "gocryptfs-kc": peer("encrypted", ["gocryptfs", "-q", "-kernel_cache", "-passfile", "{tmp}/pw", "{store}", "{mnt}"],
                         init=["gocryptfs", "-q", "-init", "-passfile", "{tmp}/pw", "{store}"],
                         light=["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", "{tmp}/pw", "{store}"],
                         version=["gocryptfs", "-version"], note="AES-256-GCM, -kernel_cache (not the default)"),
    "securefs": peer("encrypted", ["securefs", "mount", "-b", "--pass", PASSWORD, "--log", "{tmp}/log", "{store}", "{mnt}"],
                     init=["securefs", "create", "--pass", PASSWORD, "{store}"],
                     light=["securefs", "create", "-r", "1", "--pass", PASSWORD, "{store}"],
                     version=["securefs", "version"], note="format 4 (lite), the default"),
    "securefs-full": peer("encrypted", ["securefs", "mount", "-b", "--pass", PASSWORD, "--log", "{tmp}/log", "{store}", "{mnt}"],
                          init=["securefs", "create", "--format", "2", "--pass", PASSWORD, "{store}"],
                          light=["securefs", "create", "-r", "1", "--format", "2", "--pass", PASSWORD, "{store}"],
                          version=["securefs", "version"], note="format 2 (full)"),
    "cryfs": peer("encrypted", ["cryfs", "{store}", "{mnt}"], stdin=PASSWORD + "\n",
                  env={"CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true",
                       "CRYFS_LOCAL_STATE_DIR": "{tmp}/state"},
                  version=["cryfs", "--version"], durable=False, note="xchacha20-poly1305, 16 KiB blocks, the default"),
    "encfs": peer("encrypted", ["encfs", "-S", "--standard", "{store}", "{mnt}"], stdin=PASSWORD + "\n",
                  version=["encfs", "--version"], note="standard mode: AES-192-CBC, no integrity"),
    "rclone": peer("encrypted", ["rclone", "mount", "c:", "{mnt}", "--daemon", "--vfs-cache-mode", "writes",
                                 "--vfs-write-back", "0s", "--cache-dir", "{tmp}/cache"],
                   env={"RCLONE_CONFIG": "{tmp}/rclone.conf", "RCLONE_CONFIG_C_TYPE": "crypt",
                        "RCLONE_CONFIG_C_REMOTE": "{store}", "RCLONE_CONFIG_C_PASSWORD": "{rclonepw}"},
                   version=["rclone", "version"], durable=False, note="crypt over a local directory, --vfs-cache-mode writes"),
}
DEFAULT_TARGETS = ["native", "bindfs", "mergerfs", "gocryptfs", "gocryptfs-xchacha", "securefs", "cryfs", "encfs"]


class Failed(Exception):
    """A step that did not do its work; the text says which."""


def sh_fill(text, fields):
    for key, value in fields.items():
        text = text.replace("{" + key + "}", value)
    return text


def all_pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def proc_start(pid):
    """The start time of a process: with its id it names one process only. None once it ended."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # ended, though nobody has waited for it yet


def own_line():
    """This process and those that started it: their command lines name the mount too."""
    line, pid = set(), os.getpid()
    while pid > 1:
        line.add(pid)
        try:
            with open(f"/proc/{pid}/stat") as f:
                pid = int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def prioritize(pid, nice):
    """Niceness counts only inside a session where the kernel groups tasks by session: raise the group too."""
    if nice:
        try:
            with open(f"/proc/{pid}/autogroup", "w") as f:
                f.write(str(nice))
        except OSError:
            pass


class Target:
    def __init__(self, name, spec, base, ctx):
        self.name, self.spec, self.ctx = name, spec, ctx
        self.dir = os.path.join(base, name)
        self.fields = dict(tmp=self.dir, store=os.path.join(self.dir, "store"), mnt=os.path.join(self.dir, "mnt"))
        self.mnt, self.store = self.fields["mnt"], self.fields["store"]
        self.popen = None
        self.pids = {}
        self.mounted = False
        self.gone_cpu = 0.0
        self.peak = 0

    # -- life cycle -------------------------------------------------------
    def create(self, light):
        for d in (self.dir, self.store, self.mnt):
            os.makedirs(d, exist_ok=True)
        with open(os.path.join(self.dir, "pw"), "w") as f:
            f.write(PASSWORD + "\n")
        if self.spec.get("existing"):
            self.mnt = tempfile.mkdtemp(prefix="bench-", dir=self.spec["existing"])
            self.fields["mnt"] = self.spec["existing"]
            self.store = self.spec.get("store_path")
            self.mounted = True
            self.find_pids()
            return
        if not self.spec["daemon"]:
            self.mnt = self.fields["mnt"] = self.store
        if any("{rclonepw}" in v for v in self.spec["env"].values()):
            out = subprocess.run(["rclone", "obscure", PASSWORD], capture_output=True, text=True, check=True)
            self.fields["rclonepw"] = out.stdout.strip()
            open(os.path.join(self.dir, "rclone.conf"), "w").close()
        if self.spec["init"]:
            self.command(self.spec["light" if light else "init"], "init")

    def env(self):
        e = dict(os.environ)
        e.update({k: sh_fill(v, self.fields) for k, v in self.spec["env"].items()})
        e.update(BENCH_STORE=self.fields["store"], BENCH_MNT=self.fields["mnt"], BENCH_TMP=self.dir)
        return e

    def argv(self, cmd):
        if isinstance(cmd, str):
            return ["sh", "-c", sh_fill(cmd, self.fields)]
        return [sh_fill(a, self.fields) for a in cmd]

    def command(self, cmd, what, timeout=600):
        p = subprocess.run(self.argv(cmd), input=self.spec["stdin"], text=True, capture_output=True,
                           env=self.env(), timeout=timeout)
        if p.returncode:
            raise Failed(f"{what}: exit {p.returncode}: {self.clean(p.stderr or p.stdout)}")
        return p.stdout

    def clean(self, text):
        for path in (self.dir, self.ctx.base):
            text = text.replace(path, "$TMP")
        return " ".join(text.split())[-300:]

    def is_mounted(self):
        try:
            return os.stat(self.fields["mnt"]).st_dev != os.stat(self.dir).st_dev
        except OSError:
            return True  # mounted, and its daemon does not answer

    def mount(self):
        """Seconds from the start of the command until the root directory answers."""
        if not self.spec["daemon"] or self.spec.get("existing"):
            return 0.0
        log = open(os.path.join(self.dir, "mount.log"), "w+")
        t0 = time.monotonic()
        p = subprocess.Popen(self.argv(self.spec["mount"]), stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                             env=self.env())
        p.stdin.write(self.spec["stdin"] or "")
        p.stdin.close()
        while True:
            if self.is_mounted():
                try:
                    os.listdir(self.fields["mnt"])
                    break
                except OSError:
                    pass
            rc = p.poll()
            if rc not in (None, 0) or time.monotonic() - t0 > 120:
                log.seek(0)
                raise Failed(f"mount: exit {rc}: {self.clean(log.read())}")
            time.sleep(0.001)
        seconds = time.monotonic() - t0
        self.popen, self.mounted = p, True
        for _ in range(200):  # a daemon's parent may still be on its way out
            if p.poll() is not None or self.spec["kind"] == "custom":
                break
            time.sleep(0.01)
        self.find_pids()
        return seconds

    def find_pids(self):
        """The processes that serve the mount: their command line names it."""
        self.pids = {}
        if self.spec.get("pid_cmd"):
            found = [int(p) for p in self.command(self.spec["pid_cmd"], "pid").split()]
        elif not self.spec["daemon"]:
            found = []
        else:
            marks = [self.fields["mnt"].encode()]
            if not self.spec.get("existing"):
                marks.append(self.fields["store"].encode())
            found, own = [], own_line()
            for pid in all_pids():
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as f:
                        line = f.read()
                except OSError:
                    continue
                if pid not in own and any(m in line for m in marks):
                    found.append(pid)
            if self.popen and self.popen.poll() is None and self.popen.pid not in found:
                found.append(self.popen.pid)
        self.pids = {p: proc_start(p) for p in found}
        for p in found:
            prioritize(p, self.ctx.args.nice)

    def umount(self):
        """Seconds until the mount is gone and its daemon has ended."""
        if not self.mounted or not self.spec["daemon"] or self.spec.get("existing"):
            return 0.0
        self.gone_cpu += self.live_cpu()
        self.peak = max(self.peak, self.memory()[1])
        t0 = time.monotonic()
        for attempt in range(50):
            p = subprocess.run(self.argv(self.spec["umount"]), capture_output=True, text=True, env=self.env())
            if p.returncode == 0 or not self.is_mounted():
                break
            time.sleep(0.1)
        else:
            raise Failed(f"umount: exit {p.returncode}: {self.clean(p.stderr)}")
        while self.is_mounted() or any(proc_start(p) == s for p, s in self.pids.items()):
            if self.popen:
                self.popen.poll()
            if time.monotonic() - t0 > 300:
                raise Failed("umount: the daemon still runs after 300 s")
            time.sleep(0.002)
        seconds = time.monotonic() - t0
        if self.popen:
            self.popen.wait(timeout=60)
        self.popen, self.mounted, self.pids = None, False, {}
        return seconds

    def remount(self, cold):
        """Forget what is cached at the mount; with cold also what the machine caches."""
        if self.spec.get("existing"):
            if self.spec.get("remount"):
                self.command(self.spec["remount"], "remount")
                self.find_pids()
            self.ctx.drop_caches() if cold else None
            return 0.0
        self.umount()
        if cold:
            self.ctx.drop_caches()
        return self.mount()

    def destroy(self):
        if self.spec.get("existing"):
            shutil.rmtree(self.mnt, ignore_errors=True)
        elif self.mounted:
            try:
                self.umount()
            except Exception:
                subprocess.run(["fusermount3", "-uz", self.fields["mnt"]], capture_output=True)
                for pid, start in self.pids.items():
                    if start and proc_start(pid) == start:
                        os.kill(pid, signal.SIGTERM)
                        time.sleep(1)
                    if start and proc_start(pid) == start:
                        os.kill(pid, signal.SIGKILL)
                self.mounted = False
        if not self.spec.get("existing") and self.spec["daemon"] and os.path.isdir(self.fields["mnt"]) and self.is_mounted():
            subprocess.run(["fusermount3", "-uz", self.fields["mnt"]], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    # -- what the daemon uses ----------------------------------------------
    def live_cpu(self):
        total, tick = 0.0, os.sysconf("SC_CLK_TCK")
        for pid in self.pids:
            try:
                with open(f"/proc/{pid}/stat") as f:
                    s = f.read().rpartition(")")[2].split()
                total += (int(s[11]) + int(s[12])) / tick
            except OSError:
                pass
        return total

    def cpu(self):
        return self.gone_cpu + self.live_cpu()

    def memory(self):
        """Resident and peak resident MiB of the daemon."""
        rss = peak = 0
        for pid in self.pids:
            try:
                with open(f"/proc/{pid}/status") as f:
                    for line in f:
                        if line.startswith("VmRSS:"):
                            rss += int(line.split()[1])
                        elif line.startswith("VmHWM:"):
                            peak += int(line.split()[1])
            except OSError:
                pass
        return rss / 1024, peak / 1024

    def store_bytes(self):
        """Allocated bytes of the backing store (after a sync)."""
        if not self.store:
            return None
        self.ctx.sync()
        total = 0
        for root, dirs, files in os.walk(self.store):
            for n in dirs + files:
                total += os.lstat(os.path.join(root, n)).st_blocks * 512
        return total


# --------------------------------------------------------------------------
# The measured work
# --------------------------------------------------------------------------
# key: (unit, better, what it is). better: "more" or "less".
METRICS = {}


def metric(key, unit, better, text):
    METRICS[key] = dict(unit=unit, better=better, text=text)


metric("W1.write", "MB/s", "more", "sequential write of one file, 1 MiB writes, fsync at the end")
metric("W1.cpu", "s/GB", "less", "processor time of the daemon for it")
metric("W2.read_cold", "MB/s", "more", "sequential read of it, remounted, all caches dropped")
metric("W2.read_store_warm", "MB/s", "more", "remounted, the store in the page cache: the cost of the program")
metric("W2.read_warm", "MB/s", "more", "read again: the page cache of the mount, if it is kept")
metric("W2.cpu", "s/GB", "less", "processor time of the daemon for the store-warm read")
for _k, _t in (("cold", "all caches dropped"), ("store_warm", "remounted, the store cached"), ("warm", "after one read of all")):
    metric(f"W5.rand4k_{_k}", "IOPS", "more", f"random 4 KiB reads in a 100 MB file, {_t}")
    metric(f"W5.rand64k_{_k}", "IOPS", "more", f"random 64 KiB reads, {_t}")
metric("W5.rand4k_store_warm_p99", "ms", "less", "99th percentile of those 4 KiB reads")
for _w in (1, 4):
    for _f in ("nofsync", "fsync"):
        metric(f"W3.ingest_{_w}w_{_f}", "files/s", "more",
               f"media created, written, closed by {_w} writer(s), {'fsync each' if _f == 'fsync' else 'no fsync'}")
        metric(f"W3.ingest_{_w}w_{_f}_p99", "ms", "less", "99th percentile of one file, open to close")
metric("W3.cpu", "s/GB", "less", "processor time of the daemon, 1 writer, no fsync")
metric("W3.umount_flush", "s", "less", "unmount after the last ingest, until the daemon has ended")
metric("W3.delete", "files/s", "more", "the media removed again")
metric("W4.read_cold_1r", "MB/s", "more", "all media read back cold and compared, 1 reader")
metric("W4.read_cold_4r", "MB/s", "more", "the same, 4 readers")
metric("W4.read_store_warm_4r", "MB/s", "more", "4 readers, remounted, the store cached")
metric("W6.create", "files/s", "more", "1 KiB files created in one directory")
metric("W6.ls_cold", "s", "less", "ls -f of it, cold")
metric("W6.ls_stat_cold", "s", "less", "ls and stat of each, cold")
metric("W6.ls_stat_warm", "s", "less", "ls and stat of each, again at once")
metric("W6.stat_cold", "us", "less", "stat of one random name, cold")
metric("W6.stat_warm", "us", "less", "the same names again")
metric("W6.delete_all", "files/s", "more", "all of them removed")
metric("W7.list_cold", "s", "less", "find -mtime +30 (10 % match), cold; or the program's own list")
metric("W7.list_warm", "s", "less", "the same again")
metric("W7.purge", "s", "less", "find -mtime +30 -delete, cold; or the program's own purge")
metric("W7.tmpreaper", "s", "less", "tmpreaper --mtime 30d, cold")
metric("W8.rss_idle", "MiB", "less", "daemon resident memory just after mounting an empty store")
metric("W8.rss_after_w6", "MiB", "less", "after 20 000 files were created, listed, statted")
metric("W8.peak_w3", "MiB", "less", "peak resident memory over the ingest and the reading back")
metric("W9.mount_empty", "s", "less", "mount of an empty store, key derivation included")
metric("W9.mount_full", "s", "less", "mount with 20 000 files, cold")
metric("W9.mount_full_ls", "s", "less", "the same until the first full ls -f is done")
metric("W10.media_overhead", "x", "less", "bytes allocated in the store / bytes of media")
metric("W10.tiny_overhead", "x", "less", "the same for the 1 KiB files")

# the figures that time one step: for these the processor time is kept too
TIMED = {k for k, m in METRICS.items() if k.split(".")[0] in ("W1", "W2", "W3", "W4", "W5", "W6", "W7")
         and not k.endswith(("_p99", ".cpu", ".umount_flush"))}

WORKLOADS = {
    "W1": "sequential write", "W2": "sequential read", "W3": "ingest of media", "W4": "read all media back",
    "W5": "random reads", "W6": "metadata", "W7": "expired: list and purge", "W8": "memory", "W9": "mount time",
    "W10": "space",
}


class Context:
    def __init__(self, args, base):
        self.args, self.base = args, base
        self.scale = args.scale
        self.helper = os.path.join(base, "mediaio")
        self.want = set(args.workloads)
        self.cold_ok = os.access("/proc/sys/vm/drop_caches", os.W_OK)
        self.target, self.dirty = None, True
        self.step_cpu = None

    def n(self, number, least=1):
        return max(least, int(number * self.scale))

    def sync(self):
        if self.dirty:
            os.sync()
            self.dirty = False

    def drop_caches(self):
        self.sync()
        if self.cold_ok:
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("3")

    def measured(self, argv):
        """Run one step; step_cpu is then the processor time of it and of the daemon meanwhile."""
        before = self.target.cpu()
        r0 = resource.getrusage(resource.RUSAGE_CHILDREN)
        t0 = time.monotonic()
        p = subprocess.run(argv, capture_output=True, text=True, timeout=self.args.step_timeout)
        seconds = time.monotonic() - t0
        r1 = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.step_cpu = r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime + self.target.cpu() - before
        self.daemon_cpu = self.target.cpu() - before
        return p, seconds

    def io(self, *args):
        if args[0] in ("seqwrite", "ingest", "tiny", "age", "rmall", "rmtiny"):
            self.dirty = True
        p, _ = self.measured([self.helper, *map(str, args)])
        if p.returncode:
            raise Failed(f"mediaio {args[0]}: {p.stderr.strip()[-200:]}")
        out = json.loads(p.stdout)
        if out.get("bad"):
            raise Failed(f"mediaio {args[0]}: {out['bad']} of the contents read back differ from what was written")
        return out

    def fio(self, path, bs, ops):
        bytes_ = ops * bs
        p, _ = self.measured(["fio", "--name=r", f"--filename={path}", "--rw=randread", f"--bs={bs}", "--ioengine=psync",
                              f"--io_size={bytes_}", "--invalidate=0", "--readonly", f"--randseed={SEED}",
                              "--allow_file_create=0", "--output-format=json"])
        if p.returncode:
            raise Failed(f"fio: {(p.stderr or p.stdout).strip()[-200:]}")
        read = json.loads(p.stdout[p.stdout.index("{"):])["jobs"][0]["read"]
        return read["iops"], read["clat_ns"].get("percentile", {}).get("99.000000", 0) / 1e6

    def timed(self, cmd):
        self.dirty = True
        p, seconds = self.measured(cmd)
        if p.returncode:
            raise Failed(f"{os.path.basename(cmd[0])}: exit {p.returncode}: {p.stderr.strip()[-200:]}")
        return seconds, p.stdout


def touch_memory():
    """Writes to each page of most of the free memory, and gives it back."""
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    size = int(free * 0.85) // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def rate(r):
    return r["bytes"] / MB / r["total_s"]


def scenario_big(t, ctx, put):
    """W1 W2 W5: one large file."""
    size = ctx.n(256 * 1024 * 1024 // 65536, 16) * 65536
    path = os.path.join(t.mnt, "big.mp4")
    if ctx.want & {"W1", "W2"}:
        ctx.sync()
        put("W1.write", rate(ctx.io("seqwrite", path, size, 1 << 20)))
        if t.spec["daemon"]:
            put("W1.cpu", ctx.daemon_cpu / (size / 1e9))
    if "W2" in ctx.want:
        t.remount(cold=True)
        put("W2.read_cold", rate(ctx.io("seqread", path, 1 << 20, 1)))
        t.remount(cold=False)
        put("W2.read_store_warm", rate(ctx.io("seqread", path, 1 << 20, 1)))
        if t.spec["daemon"]:
            put("W2.cpu", ctx.daemon_cpu / (size / 1e9))
        ctx.io("seqread", path, 1 << 20, 0)
        put("W2.read_warm", rate(ctx.io("seqread", path, 1 << 20, 0)))
    if os.path.exists(path):
        os.unlink(path)
    if "W5" in ctx.want:
        path = os.path.join(t.mnt, "random.mp4")
        ctx.io("seqwrite", path, int(100 * MB * min(1, ctx.scale)), 1 << 20)
        for name, bs, cold_ops, ops in (("rand4k", 4096, 2000, 5000), ("rand64k", 65536, 400, 1200)):
            t.remount(cold=True)
            put(f"W5.{name}_cold", ctx.fio(path, bs, ctx.n(cold_ops, 50))[0])
            t.remount(cold=False)
            if t.store:
                warm_store(t.store)
            iops, p99 = ctx.fio(path, bs, ctx.n(ops, 50))
            put(f"W5.{name}_store_warm", iops)
            if bs == 4096:
                put("W5.rand4k_store_warm_p99", p99)
        ctx.io("seqread", path, 1 << 20, 0)
        put("W5.rand4k_warm", ctx.fio(path, 4096, ctx.n(20000, 50))[0])
        put("W5.rand64k_warm", ctx.fio(path, 65536, ctx.n(1500, 50))[0])
        os.unlink(path)


def warm_store(store):
    """The backing files into the page cache, by a plain read."""
    buf = bytearray(1 << 20)
    for root, _dirs, files in os.walk(store):
        for n in files:
            fd = os.open(os.path.join(root, n), os.O_RDONLY)
            try:
                while os.readv(fd, [buf]):
                    pass
            finally:
                os.close(fd)


def scenario_media(t, ctx, put):
    """W3 W4 W10: the media of a chat account."""
    n = ctx.n(2000 * ctx.args.media_factor, 20)
    order = [(1, 0), (4, 0), (4, 1), (1, 1)] if "W3" in ctx.want else [(1, 0)]
    if not ctx.want & {"W3", "W4", "W10"}:
        return
    base = t.store_bytes() or 0
    for writers, fsync in order:
        d = os.path.join(t.mnt, f"media-{writers}{fsync}")
        ctx.sync()
        r = ctx.io("ingest", d, n, writers, fsync, 131072, SEED)
        if "W3" in ctx.want:
            key = f"W3.ingest_{writers}w_{'fsync' if fsync else 'nofsync'}"
            put(key, n / r["total_s"])
            put(key + "_p99", r["p99_ms"])
            if (writers, fsync) == (1, 0) and t.spec["daemon"]:
                put("W3.cpu", ctx.daemon_cpu / (r["bytes"] / 1e9))
        if (writers, fsync) != order[-1]:
            gone = ctx.io("rmall", d, n, SEED)
            if (writers, fsync) == (1, 0):
                put("W3.delete", n / gone["total_s"])
    seconds = t.umount()
    if t.spec["daemon"] and not t.spec.get("existing"):
        put("W3.umount_flush", seconds)
    if "W10" in ctx.want and t.store:
        put("W10.media_overhead", (t.store_bytes() - base) / r["bytes"])
    ctx.drop_caches()
    t.mount()
    if "W4" in ctx.want:
        if t.spec.get("existing"):
            t.remount(cold=True)
        put("W4.read_cold_1r", rate(ctx.io("readall", d, n, 1, 131072, SEED)))
        t.remount(cold=True)
        put("W4.read_cold_4r", rate(ctx.io("readall", d, n, 4, 131072, SEED)))
        t.remount(cold=False)
        put("W4.read_store_warm_4r", rate(ctx.io("readall", d, n, 4, 131072, SEED)))
    if t.pids and "W8" in ctx.want:
        put("W8.peak_w3", max(t.peak, t.memory()[1]))


def scenario_meta(t, ctx, put):
    """W6 W7 W8 W9: 20 000 files in one directory."""
    if not ctx.want & {"W6", "W7", "W8", "W9"}:
        return
    n = ctx.n(20000, 200)
    d = os.path.join(t.mnt, "tiny")
    base = t.store_bytes() or 0
    r = ctx.io("tiny", d, n, 1024, 1)
    w6, w7 = "W6" in ctx.want, "W7" in ctx.want
    if w6:
        put("W6.create", n / r["total_s"])
    ctx.io("age", d, n, 10, 30)
    t.umount()
    if "W10" in ctx.want and t.store:
        put("W10.tiny_overhead", (t.store_bytes() - base) / (n * 1024))
    ctx.drop_caches()
    seconds = t.mount()
    if t.spec.get("existing"):
        t.remount(cold=True)
    if w6 or "W9" in ctx.want:
        ls = ctx.io("scan", d)
        if ls["files"] != n:
            raise Failed(f"W6: {ls['files']} files listed, not {n}")
        if w6:
            put("W6.ls_cold", ls["total_s"])
        if "W9" in ctx.want and t.spec["daemon"] and not t.spec.get("existing"):
            put("W9.mount_full", seconds)
            put("W9.mount_full_ls", seconds + ls["total_s"])
    if w6:
        t.remount(cold=True)
        put("W6.ls_stat_cold", ctx.io("scanstat", d)["total_s"])
        put("W6.ls_stat_warm", ctx.io("scanstat", d)["total_s"])
        t.remount(cold=True)
        count = ctx.n(10000, 100)
        put("W6.stat_cold", ctx.io("statrand", d, n, count, SEED)["total_s"] / count * 1e6)
        put("W6.stat_warm", ctx.io("statrand", d, n, count, SEED)["total_s"] / count * 1e6)
    if "W8" in ctx.want and t.pids:
        if not w6:
            ctx.io("scanstat", d)
        put("W8.rss_after_w6", t.memory()[0])
    if w7:
        aged = len(range(0, n, 10))
        own_list, own_purge = t.spec.get("expired_list"), t.spec.get("expired_purge")
        find = ["find", d, "-type", "f", "-mtime", "+30"]
        t.remount(cold=True)
        for key in ("W7.list_cold", "W7.list_warm"):
            seconds, out = ctx.timed(t.argv(own_list) if own_list else find)
            if len(out.splitlines()) < aged:
                raise Failed(f"{key}: {len(out.splitlines())} expired files listed, not {aged}")
            put(key, seconds)
        t.remount(cold=True)
        seconds, _ = ctx.timed(t.argv(own_purge) if own_purge else [*find, "-delete"])
        put("W7.purge", seconds)
        left = ctx.io("scan", d)["files"]
        if left != n - aged:
            raise Failed(f"W7.purge: {left} files left, not {n - aged}")
        if shutil.which("tmpreaper"):
            ctx.io("tiny", d, n, 1024, 10)
            ctx.io("age", d, n, 10, 30)
            t.remount(cold=True)
            # --runtime 0: the default gives up after 55 s
            seconds, _ = ctx.timed(["tmpreaper", "--runtime", "0", "--mtime", "30d", d])
            put("W7.tmpreaper", seconds)
            left = ctx.io("scan", d)["files"]
            if left != n - aged:
                raise Failed(f"W7.tmpreaper: {left} files left, not {n - aged}")
    if w6:
        left = ctx.io("scan", d)["files"]
        t.remount(cold=True)
        r = ctx.io("rmtiny", d)
        if r["files"] != left:
            raise Failed(f"W6.delete_all: {r['files']} files removed, not {left}")
        put("W6.delete_all", r["files"] / r["total_s"])


SCENARIOS = {"big": scenario_big, "media": scenario_media, "meta": scenario_meta}


# --------------------------------------------------------------------------
# A run
# --------------------------------------------------------------------------
def load():
    return round(os.getloadavg()[0], 2)


def pressure():
    try:
        with open("/proc/pressure/cpu") as f:
            return float(f.read().split("avg10=")[1].split()[0])
    except (OSError, IndexError):
        return None


def wait_quiet(args):
    end = time.monotonic() + args.quiet_wait
    while args.quiet_load and load() > args.quiet_load and time.monotonic() < end:
        time.sleep(2)


def one(name, spec, scenario, rnd, ctx, result):
    """One scenario on one target, on a new store."""
    base = tempfile.mkdtemp(prefix=f"{rnd}-{scenario}-", dir=ctx.base)
    t = Target(name, spec, base, ctx)
    before, start = load(), time.monotonic()
    got, cpu = {}, {}
    ctx.target = t

    def put(key, value):
        got[key] = round(value, 6)
        if key in TIMED and ctx.step_cpu is not None:
            cpu[key] = round(ctx.step_cpu, 3)

    error = None
    try:
        t.create(light=scenario != "meta")
        ctx.drop_caches()
        seconds = t.mount()
        if scenario == "meta" and t.pids and not spec.get("existing"):
            if "W9" in ctx.want:
                put("W9.mount_empty", seconds)
            if "W8" in ctx.want:
                put("W8.rss_idle", t.memory()[0])
        SCENARIOS[scenario](t, ctx, put)
    except (Failed, OSError, subprocess.SubprocessError, ValueError) as e:
        error = t.clean(f"{type(e).__name__}: {e}")
    finally:
        t.destroy()
        shutil.rmtree(base, ignore_errors=True)
    took = time.monotonic() - start
    run = dict(round=rnd, scenario=scenario, target=name, seconds=round(took, 1), load_before=before,
               load_after=load(), cpu_pressure=pressure(), error=error, values=got, cpu_s=cpu)
    result["runs"].append(run)
    print(f"  round {rnd} {scenario:5} {name:18} {took:7.1f} s  load {before}-{run['load_after']}"
          + (f"  ERROR {error}" if error else ""), file=sys.stderr, flush=True)


def version_of(spec):
    if not spec["version"]:
        return None
    p = subprocess.run(spec["version"], capture_output=True, text=True)
    text = (p.stdout + p.stderr).strip().splitlines()
    return text[0].strip() if text else None


def parse_named(items, what):
    out = {}
    for item in items or []:
        name, eq, value = item.partition("=")
        if not eq or not name:
            sys.exit(f"bench.py: {what} needs NAME=VALUE, not {item!r}")
        out[name] = value
    return out


def command_run(args):
    specs = {}
    for name in [t for t in args.targets.split(",") if t]:
        if name not in PEERS:
            sys.exit(f"bench.py: no such target: {name} (bench.py list)")
        if PEERS[name]["mount"] and not shutil.which(PEERS[name]["mount"][0]):
            print(f"bench.py: {name}: not installed, left out", file=sys.stderr)
            continue
        specs[name] = PEERS[name]
    named = {k: parse_named(getattr(args, k), "--" + k.replace("_", "-"))
             for k in ("target", "cmd", "init", "init_light", "umount", "store", "remount", "pid_cmd", "expired_list", "expired_purge")}
    for name, path in named["target"].items():
        specs[name] = dict(peer("custom"), daemon=True, existing=os.path.abspath(path),
                           store_path=named["store"].get(name), remount=named["remount"].get(name))
    for name, cmd in named["cmd"].items():
        specs[name] = peer("custom", mount=cmd, init=named["init"].get(name), light=named["init_light"].get(name))
        if name in named["umount"]:
            specs[name]["umount"] = named["umount"][name]
    for name in list(specs):
        if specs[name]["kind"] == "custom":
            for k in ("pid_cmd", "expired_list", "expired_purge"):
                specs[name][k] = named[k].get(name)
    if not specs:
        sys.exit("bench.py: no targets")
    if args.touch_memory:
        touch_memory()
    if args.nice:
        os.nice(args.nice)
        if os.getsid(0) != os.getpid():
            try:
                os.setsid()  # a session, and so a scheduling group, of its own
            except OSError:
                pass
        prioritize(os.getpid(), args.nice)

    base = tempfile.mkdtemp(prefix="bench-", dir=args.base)
    ctx = Context(args, base)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-pthread", "-o", ctx.helper, str(HERE / "mediaio.c"), "-lm"], check=True)
    if not ctx.cold_ok:
        print("bench.py: not root: the cold figures are not cold", file=sys.stderr)
    result = dict(
        format=1, date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        machine=dict(kernel=platform.release(), cpus=os.cpu_count(), cpu=cpu_model(),
                     memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20, store_fs=fs_of(base)),
        settings=dict(scale=args.scale, rounds=args.rounds, workloads=sorted(args.workloads), nice=args.nice,
                      media_files=ctx.n(2000 * args.media_factor, 20), tiny_files=ctx.n(20000, 200), seed=SEED,
                      caches_dropped=ctx.cold_ok),
        targets={n: dict(kind=s["kind"], durable=s["durable"], note=s["note"], version=version_of(s)) for n, s in specs.items()},
        metrics=METRICS, runs=[])
    first = 0
    if args.append and args.json and os.path.exists(args.json):
        with open(args.json) as f:
            old = json.load(f)
        same = ("scale", "media_files", "tiny_files", "seed")
        if any(old["settings"][k] != result["settings"][k] for k in same):
            sys.exit("bench.py: --append: the scale of that result is another one")
        first = 1 + max((r["round"] for r in old["runs"]), default=-1)
        result["runs"], result["date"] = old["runs"], old["date"]
        result["targets"] = {**old["targets"], **result["targets"]}
        result["settings"]["rounds"] = first + args.rounds
        result["settings"]["workloads"] = sorted({*old["settings"]["workloads"], *args.workloads})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scenarios = [s for s, ws in (("big", {"W1", "W2", "W5"}), ("media", {"W3", "W4", "W10"}), ("meta", {"W6", "W7", "W8", "W9"}))
                 if ctx.want & ws]
    try:
        names = list(specs)
        for rnd in range(first, first + args.rounds):
            turn = names[rnd % len(names):] + names[:rnd % len(names)]
            for scenario in scenarios:
                for name in turn:
                    wait_quiet(args)
                    one(name, specs[name], scenario, rnd, ctx, result)
                    if args.json:
                        save(result, args.json)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(table(result))
    return 1 if any(r["error"] for r in result["runs"]) else 0


def cpu_model():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def fs_of(path):
    p = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", path], capture_output=True, text=True)
    return p.stdout.strip()


def save(result, path):
    result["summary"] = summary(result)
    tmp = path + ".tmp"
    with open(tmp, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    os.replace(tmp, path)


# --------------------------------------------------------------------------
# Medians, ratios, tables
# --------------------------------------------------------------------------
def samples(result, field="values"):
    """{metric: {target: {round: value}}}"""
    out = {}
    for run in result["runs"]:
        for key, value in run.get(field, {}).items():
            out.setdefault(key, {}).setdefault(run["target"], {}).setdefault(run["round"], []).append(value)
    return {k: {t: {r: statistics.median(v) for r, v in rounds.items()} for t, rounds in ts.items()} for k, ts in out.items()}


def summary(result):
    """{metric: {target: median, min, max, vs_native, vs_best_peer}, "_best": name}.

    Both ratios say how much better (above 1) or worse (below 1) a target is.
    """
    all_samples, all_cpu, out = samples(result), samples(result, "cpu_s"), {}
    kinds = {t: s["kind"] for t, s in result["targets"].items()}
    for key, info in result["metrics"].items():
        by = all_samples.get(key)
        if not by:
            continue
        more = info["better"] == "more"
        med = {t: statistics.median(v.values()) for t, v in by.items()}
        synced = key.startswith("W1.") or "_fsync" in key
        peers = {t: m for t, m in med.items() if kinds.get(t) == "encrypted"
                 and (result["targets"][t].get("durable", True) or not synced)}
        best = (max if more else min)(peers, key=peers.get) if peers else None
        native = next((t for t in by if kinds.get(t) == "native"), None)
        row = {"_best": best}
        for t, rounds in by.items():
            def ratio(other):
                if not other:
                    return None
                pairs = [(rounds[r], by[other][r]) for r in rounds if r in by[other]]
                pairs = pairs or [(med[t], med[other])]  # never measured in one round
                pairs = [(a, b) if more else (b, a) for a, b in pairs if a > 0 and b > 0]
                return round(statistics.median(a / b for a, b in pairs), 4) if pairs else None
            cpu = all_cpu.get(key, {}).get(t)
            row[t] = dict(median=med[t], min=min(rounds.values()), max=max(rounds.values()), n=len(rounds),
                          cpu_s=statistics.median(cpu.values()) if cpu else None,
                          vs_native=ratio(native), vs_best_peer=ratio(best))
        out[key] = row
    return out


def fmt(x):
    if x is None:
        return "-"
    if x == 0:
        return "0"
    if abs(x) >= 1000:
        return f"{x:,.0f}".replace(",", " ")
    if abs(x) >= 100:
        return f"{x:.0f}"
    if abs(x) >= 10:
        return f"{x:.1f}"
    return f"{x:.3f}" if abs(x) < 1 else f"{x:.2f}"


def table(result, only=None, everything=False):
    s, names = summary(result), list(result["targets"])
    head = ["metric", "unit"] + names + ["best peer"]
    blocks = []

    def grid(title, cell):
        rows = [head] + [[k, result["metrics"][k]["unit"]] + [cell(s[k].get(n)) for n in names] + [s[k]["_best"] or "-"]
                         for k in s if not only or k.split(".")[0] in only]
        blocks.append(title + "\n\n" + "\n".join(
            "| " + " | ".join(r) + " |" + ("\n|" + "---|" * len(head) if i == 0 else "") for i, r in enumerate(rows)))

    m, st = result["machine"], result["settings"]
    loads = [r["load_before"] for r in result["runs"]]
    blocks.append(f"{result['date']}, kernel {m['kernel']}, {m['cpus']} x {m['cpu']}, {m['memory_mib']} MiB, stores on {m['store_fs']}; "
                  f"scale {st['scale']}, {st['rounds']} rounds, {st['media_files']} media, {st['tiny_files']} small files; "
                  f"load {min(loads)}-{max(loads)} (median {statistics.median(loads):.1f})")
    grid("Medians", lambda c: fmt(c["median"]) if c else "-")
    grid("Times better than native (below 1: worse), median of the rounds", lambda c: fmt(c["vs_native"]) if c else "-")
    grid("Times better than the best encrypted peer", lambda c: fmt(c["vs_best_peer"]) if c else "-")
    if everything:
        grid("Processor seconds of the step: the program that reads or writes, and the daemon", lambda c: fmt(c["cpu_s"]) if c else "-")
        grid("Spread: min-max", lambda c: f"{fmt(c['min'])}..{fmt(c['max'])}" if c else "-")
    errors = [r for r in result["runs"] if r["error"]]
    if errors:
        blocks.append("Errors\n\n" + "\n".join(f"- round {r['round']} {r['scenario']} {r['target']}: {r['error']}" for r in errors))
    return "\n\n".join(blocks)


def command_list(_args):
    for name, spec in PEERS.items():
        have = spec["mount"] is None or shutil.which(spec["mount"][0])
        print(f"{name:18} {spec['kind']:12} {'' if have else 'NOT INSTALLED '}{spec['note']}")
    print()
    for key, info in METRICS.items():
        print(f"{key:26} {info['unit']:8} {info['better']:5} {info['text']}")
    return 0


def command_show(args):
    for path in args.files:
        with open(path) as f:
            print(table(json.load(f), args.workloads and set(args.workloads), args.all))
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    sub.add_parser("list", help="targets and metrics").set_defaults(run=command_list)
    s = sub.add_parser("show", help="print the tables of a result")
    s.add_argument("files", nargs="+")
    s.add_argument("-w", "--workloads", type=lambda v: v.split(","), default=None)
    s.add_argument("-a", "--all", action="store_true", help="with processor time and spread")
    s.set_defaults(run=command_show)
    r = sub.add_parser("run", help="measure")
    r.add_argument("-t", "--targets", default=",".join(DEFAULT_TARGETS), help="known targets, separated by commas (bench.py list)")
    r.add_argument("-w", "--workloads", type=lambda v: v.split(","), default=list(WORKLOADS), help="W1,W2,...; default: all")
    r.add_argument("-r", "--rounds", type=int, default=3)
    r.add_argument("-s", "--scale", type=float, default=1.0, help="0.1 ... 10: the amount of work")
    r.add_argument("--media-factor", type=float, default=1.0, help="only the number of media, times this")
    r.add_argument("--json", help="write the result here, anew after each step")
    r.add_argument("--append", action="store_true", help="add the rounds to those that --json already holds (same scale)")
    r.add_argument("--base", default=None, help="make the stores under this folder (default: the temporary folder)")
    r.add_argument("--step-timeout", type=float, default=900)
    r.add_argument("--quiet-load", type=float, default=0, help="before each step wait until the load is below this")
    r.add_argument("--quiet-wait", type=float, default=60, help="... for at most so many seconds")
    r.add_argument("--touch-memory", action="store_true",
                   help="first write to nearly all free memory once: a new virtual machine pays for the first touch of each page")
    r.add_argument("--nice", type=int, default=0, help="run everything measured at this niceness (negative needs root)")
    g = r.add_argument_group("your own program (each may be given several times; {store} {mnt} {tmp} are filled in)")
    g.add_argument("--target", action="append", metavar="NAME=MOUNTPOINT", help="measure inside a file system that is mounted already")
    g.add_argument("--store", action="append", metavar="NAME=DIR", help="its backing store, for W10")
    g.add_argument("--remount", action="append", metavar="NAME=CMD", help="how to remount it")
    g.add_argument("--cmd", action="append", metavar="NAME=CMD", help="mount command; may stay in the foreground")
    g.add_argument("--init", action="append", metavar="NAME=CMD", help="makes the empty store first")
    g.add_argument("--init-light", action="append", metavar="NAME=CMD", help="the same with a key derivation that costs nothing")
    g.add_argument("--umount", action="append", metavar="NAME=CMD", help="default: fusermount3 -u {mnt}")
    g.add_argument("--pid-cmd", action="append", metavar="NAME=CMD", help="prints the daemon's process ids, if its command line does not name the mount")
    g.add_argument("--expired-list", action="append", metavar="NAME=CMD", help="lists expired files, a line each (instead of find)")
    g.add_argument("--expired-purge", action="append", metavar="NAME=CMD", help="removes them (instead of find -delete)")
    r.set_defaults(run=command_run)
    args = p.parse_args()
    if getattr(args, "workloads", None):
        unknown = set(args.workloads) - set(WORKLOADS)
        if unknown:
            p.error(f"no such workload: {', '.join(sorted(unknown))}")
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
