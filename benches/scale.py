#!/usr/bin/env python3
"""How the costs of a volume grow with the number of media in it.

For each size this makes a fresh encrypted store with that many small media (512 to 4096 bytes that do not compress) in
WhatsApp's layout, shared/<4 hex>/<4 hex>/<24 hex>, with at most a thousand media per directory. Media made one after
the other go into different directories, so that the index is written in no convenient order. Then it measures what
should not depend on the size: rates of creating, looking at and removing media, listing `.expired` and `status` with
ten expired media, mounting after a clean end and after `kill -9`, the daemon's memory, and the space that the index
takes for each medium.

The daemon's processor time stands beside the times, because it is what a machine with other work to do changes least.

It needs root (to empty the kernel's caches of names), Linux with FUSE, and room for the largest store: about 9 GB for a
million media. Everything it makes is removed at the end, also when it fails or is interrupted.

Example:
  benches/scale.py --wamedia target/release/wamedia --media 1000,10000,100000 --json scale.json
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WRITERS = 2
MEDIA_PER_DIRECTORY = 1000
SMALLEST, LARGEST = 512, 4096
EXPIRED = 10
EXPIRED_AGE = 40 * 86400
RETENTION = "30d"
LAST = 5000
STATS = 5000
REMOVALS = 5000
BEFORE_KILL = 2000
REPEATS = 5
START_LIMIT = 900
TICKS = os.sysconf("SC_CLK_TCK")

# Bytes that do not compress; each medium is a window of them with its number in front.
NOISE = random.Random(1).randbytes(1 << 20)

# What is measured: name in the JSON, name in the table, digits after the point.
ROWS = [
    ("create_last", "create, the last 5,000 (files/s)", 0),
    ("create_all", "create, all (files/s)", 0),
    ("create_cpu_last", "create, the last tenth: daemon's processor time (us/file)", 0),
    ("create_written_last", "create, the last tenth: written by the daemon (KiB/file)", 1),
    ("idle_after_create", "daemon busy after the creates (s)", 1),
    ("unmount", "clean unmount after the creates (s)", 2),
    ("mount_clean", "mount to first `ls`, after a clean end (s)", 2),
    ("mount_clean_cpu", "the same: daemon's processor time (s)", 2),
    ("mount_killed", "mount to first `ls`, after kill -9 with 2,000 new media (s)", 2),
    ("mount_killed_cpu", "the same: daemon's processor time (s)", 2),
    ("mount_killed_warm", "mount after kill -9, index in the page cache (s)", 2),
    ("stat_cold", "stat of random media, no names cached (files/s)", 0),
    ("ls_directory", "`ls -f` of one directory (ms)", 1),
    ("ls_all", "`ls -f` of all directories (s)", 2),
    ("ls_all_rate", "the same (files/s)", 0),
    ("ls_expired", "`ls -f` of `.expired` with ten entries (ms)", 2),
    ("status", "`status --json` (ms)", 1),
    ("remove", "remove, 5,000 random media (files/s)", 0),
    ("remove_cpu", "the same: daemon's processor time (us/file)", 0),
    ("purge", "`expired purge --yes` of ten (ms)", 1),
    ("rss_created", "daemon's memory after the creates (MiB)", 1),
    ("rss_created_peak", "its peak until then (MiB)", 1),
    ("rss_mounted", "after a remount, `.expired` and `status` (MiB)", 1),
    ("rss_walked", "after listing everything (MiB)", 1),
    ("rss_removed", "after the removals (MiB)", 1),
    ("rss_killed", "after the mount that follows kill -9 (MiB)", 1),
    ("rss_killed_peak", "its peak until then (MiB)", 1),
    ("index_per_medium", "index on disk (bytes/medium)", 0),
    ("store_per_byte", "store per byte of media, apparent sizes", 3),
    ("check", "`check` of the unmounted store (s)", 1),
]


def say(text):
    """Tells how the run gets on."""
    print(f"scale: {text}", file=sys.stderr, flush=True)


# --- Media: everything about medium number i follows from i.


def digest(*parts):
    """A digest of some numbers and words, in hex."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def directories(media):
    """The directories for so many media, relative to the mount."""
    names = (digest("directory", number) for number in range(max(1, media // MEDIA_PER_DIRECTORY)))
    return [f"shared/{name[:4]}/{name[4:8]}" for name in names]


def medium_path(dirs, number):
    """Where medium `number` lies, relative to the mount."""
    return f"{dirs[number % len(dirs)]}/{digest('medium', number)[:24]}"


def medium_len(number):
    """How many bytes medium `number` has."""
    return SMALLEST + int(digest("length", number)[:6], 16) % (LARGEST - SMALLEST + 1)


def make_media(job):
    """Writes the media of a range; runs in a process of its own."""
    mount, dirs, first, end = job
    for number in range(first, end):
        length = medium_len(number)
        start = int(digest("noise", number)[:6], 16) % (len(NOISE) - LARGEST)
        fd = os.open(f"{mount}/{medium_path(dirs, number)}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(fd, number.to_bytes(8, "big") + NOISE[start : start + length - 8])
        finally:
            os.close(fd)


# --- The daemon and its mount.


class Volume:
    """A store with its key, and the daemon that serves it while it is mounted."""

    def __init__(self, wamedia, base, options):
        self.wamedia, self.options = wamedia, options
        self.store, self.mount, self.key = base / "store", base / "mnt", base / "key"
        self.log = open(base / "log", "a", encoding="utf-8")  # pylint: disable=consider-using-with
        self.daemon = None
        self.mount.mkdir()
        self.command("init", "--key-file", self.key, "--retention", RETENTION, self.store)

    def command(self, *arguments, fine=(0,)):
        """Runs a command of wamedia and returns what it prints."""
        command = [self.wamedia, "--log", "error", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in fine:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def is_mounted(self):
        """Whether something is mounted at the mount point, dead or alive."""
        with open("/proc/self/mountinfo", encoding="utf-8") as table:
            return any(line.split()[4] == str(self.mount) for line in table)

    def start(self, cold=True):
        """Mounts; returns the seconds until the first listing of the root, and the daemon's processor time for it.

        When `cold`, the files of the index are not in the page cache before, as after the start of a machine.
        """
        if cold:
            self.forget_index_files()
        start = time.monotonic()
        command = [self.wamedia, "--log", "warn", "mount", *self.options, "--key-file", self.key, self.store, self.mount]
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while not self.is_mounted():
            if self.daemon.poll() is not None or time.monotonic() - start > START_LIMIT:
                raise RuntimeError("the volume was not mounted; its log: " + Path(self.log.name).read_text("utf-8"))
            time.sleep(0.002)
        os.listdir(self.mount)
        return time.monotonic() - start, self.processor_time()

    def forget_index_files(self):
        """Takes what the index and the journals hold out of the page cache."""
        for path in [*self.store.glob("index/**/*"), *self.store.glob("journal*")]:
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def stop(self):
        """Unmounts in order; returns the seconds until the daemon has ended."""
        start = time.monotonic()
        self.command("umount", self.mount)
        self.daemon.wait(START_LIMIT)
        self.daemon = None
        return time.monotonic() - start

    def kill(self):
        """Ends the daemon with SIGKILL, and clears what is mounted."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None
        if self.is_mounted():
            subprocess.run(["umount", "--lazy", self.mount], check=False)

    def remove(self):
        """Removes everything, whatever state it is in."""
        self.kill()
        self.log.close()
        shutil.rmtree(self.store, ignore_errors=True)

    def proc(self, name):
        """A file of the daemon's in /proc."""
        return Path(f"/proc/{self.daemon.pid}/{name}").read_text("utf-8")

    def processor_time(self):
        """Seconds of processor time that the daemon has taken."""
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def bytes_written(self):
        """Bytes that the daemon has written to files."""
        return int(dict(line.split(": ") for line in self.proc("io").splitlines())["wchar"])

    def memory(self, field="VmRSS"):
        """The daemon's memory in MiB."""
        for line in self.proc("status").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"/proc/{self.daemon.pid}/status has no {field}")

    def wait_idle(self, limit=300.0):
        """Waits until the daemon does nothing for a second; returns how long it was busy."""
        start = time.monotonic()
        quiet, before = 0, self.processor_time()
        while quiet < 10 and time.monotonic() - start < limit:
            time.sleep(0.25)
            now = self.processor_time()
            # Looking whether there is something to do takes a tick of the clock now and then.
            quiet = quiet + 1 if now - before <= 1 / TICKS else 0
            before = now
        return max(0.0, time.monotonic() - start - quiet * 0.25)


# --- Measurements.


def forget_names():
    """Empties the kernel's caches of names and inodes; more than once, because what was just used stays at first."""
    for _ in range(3):
        Path("/proc/sys/vm/drop_caches").write_text("2", "ascii")


def timed(action):
    """The seconds an action takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def list_directory(path):
    """`ls -f`: the number of entries."""
    with os.scandir(path) as entries:
        return sum(1 for _ in entries)


def tree_sizes(path):
    """Apparent size and bytes taken on the disk of all files below a directory."""
    apparent = taken = 0
    for parent, _, names in os.walk(path):
        for name in names:
            info = os.lstat(os.path.join(parent, name))
            apparent += info.st_size
            taken += info.st_blocks * 512
    return apparent, taken


def create(volume, pool, dirs, media, found):
    """Makes the media in steps and keeps how long each took."""
    for path in dirs:
        os.makedirs(volume.mount / path, exist_ok=True)
    last = min(LAST, media // 2)
    marks = sorted({media * step // 10 for step in range(11)} | {media - last})
    seen = {}

    def look(mark):
        seen[mark] = time.monotonic(), volume.processor_time(), volume.bytes_written(), volume.memory()

    look(0)
    for first, end in zip(marks, marks[1:]):
        middle = (first + end) // 2
        jobs = [(str(volume.mount), dirs, first, middle), (str(volume.mount), dirs, middle, end)]
        pool.map(make_media, jobs, chunksize=1)
        look(end)
        rate = (end - first) / (seen[end][0] - seen[first][0])
        say(f"{media} media: {end} made, {rate:.0f}/s, memory {seen[end][3]:.1f} MiB")

    def per_second(first, end):
        return (end - first) / (seen[end][0] - seen[first][0])

    tenths = list(zip(range(0, media, media // 10), range(media // 10, media + 1, media // 10)))
    found["create_last"] = per_second(media - last, media)
    found["create_all"] = per_second(0, media)
    found["create_tenths"] = [round(per_second(*tenth)) for tenth in tenths]
    found["rss_tenths"] = [round(seen[end][3], 1) for _, end in tenths]
    first, end = tenths[-1]
    found["create_cpu_last"] = (seen[end][1] - seen[first][1]) / (end - first) * 1e6
    found["create_written_last"] = (seen[end][2] - seen[first][2]) / (end - first) / 1024


def look_around(volume, dirs, media, found, choice):
    """What does not change the volume."""
    expired = volume.mount / ".expired"

    def list_expired():
        if list_directory(expired) != EXPIRED:
            raise RuntimeError(f".expired shows {os.listdir(expired)}")

    found["ls_expired"] = statistics.median(timed(list_expired) for _ in range(REPEATS)) * 1e3
    status = lambda: volume.command("status", "--json", volume.mount)  # noqa: E731
    found["status"] = statistics.median(timed(status) for _ in range(REPEATS)) * 1e3
    found["rss_mounted"] = volume.memory()
    say(f"{media} media: .expired {found['ls_expired']:.2f} ms, status {found['status']:.1f} ms")

    sample = [medium_path(dirs, number) for number in choice.sample(range(media), min(STATS, media))]
    forget_names()
    volume.wait_idle()
    seconds = timed(lambda: [os.stat(volume.mount / path) for path in sample])
    found["stat_cold"] = len(sample) / seconds

    forget_names()
    volume.wait_idle()
    some = choice.sample(dirs, min(REPEATS, len(dirs)))
    found["ls_directory"] = statistics.median(timed(lambda p=p: list_directory(volume.mount / p)) for p in some) * 1e3
    forget_names()
    volume.wait_idle()
    counts = []
    seconds = timed(lambda: counts.extend(list_directory(volume.mount / path) for path in dirs))
    if sum(counts) != media:
        raise RuntimeError(f"the directories list {sum(counts)} media instead of {media}")
    found["ls_all"], found["ls_all_rate"] = seconds, media / seconds
    found["rss_walked"] = volume.memory()
    say(f"{media} media: stat {found['stat_cold']:.0f}/s, ls of all {seconds:.2f} s")


def remove(volume, dirs, media, found, choice, aged):
    """Removes random media, then what has expired; returns how many were removed."""
    young = [number for number in choice.sample(range(media), min(REMOVALS, media // 2)) if number not in aged]
    before = volume.processor_time()
    seconds = timed(lambda: [os.unlink(volume.mount / medium_path(dirs, number)) for number in young])
    found["remove"] = len(young) / seconds
    volume.wait_idle()
    found["remove_cpu"] = (volume.processor_time() - before) / len(young) * 1e6
    found["rss_removed"] = volume.memory()
    found["purge"] = timed(lambda: volume.command("expired", "purge", "--yes", volume.mount)) * 1e3
    if list_directory(volume.mount / ".expired"):
        raise RuntimeError("expired media are left after the purge")
    say(f"{media} media: removed {found['remove']:.0f}/s, purge {found['purge']:.1f} ms")
    return len(young) + EXPIRED


def measure(volume, pool, media, with_check):
    """Everything about one size."""
    found = {"media": media}
    choice = random.Random(media)
    dirs = directories(media)

    volume.start()
    create(volume, pool, dirs, media, found)
    found["idle_after_create"] = volume.wait_idle()
    found["rss_created"], found["rss_created_peak"] = volume.memory(), volume.memory("VmHWM")
    aged = {media // EXPIRED * step for step in range(EXPIRED)}
    then = time.time() - EXPIRED_AGE
    for number in aged:
        os.utime(volume.mount / medium_path(dirs, number), (then, then))
    found["unmount"] = volume.stop()

    content = sum(medium_len(number) for number in range(media))
    found["index_per_medium"] = tree_sizes(volume.store / "index")[1] / media
    found["store_per_byte"] = tree_sizes(volume.store)[0] / content
    say(f"{media} media: unmounted in {found['unmount']:.2f} s, index {found['index_per_medium']:.0f} bytes/medium")

    found["mount_clean"], found["mount_clean_cpu"] = volume.start()
    say(f"{media} media: mounted in {found['mount_clean']:.2f} s")
    look_around(volume, dirs, media, found, choice)
    removed = remove(volume, dirs, media, found, choice, aged)

    make_media((str(volume.mount), dirs, media, media + BEFORE_KILL))
    volume.kill()
    found["mount_killed"], found["mount_killed_cpu"] = volume.start()
    found["rss_killed"], found["rss_killed_peak"] = volume.memory(), volume.memory("VmHWM")
    status = json.loads(volume.command("status", "--json", volume.mount))
    found["media_after_kill"], found["media_expected"] = status["media"], media - removed + BEFORE_KILL
    say(f"{media} media: mounted in {found['mount_killed']:.2f} s after kill -9")
    volume.kill()
    found["mount_killed_warm"], _ = volume.start(cold=False)
    # The daemon learns of a close after the program does, so the last one may be lost with it.
    if not 0 <= found["media_expected"] - found["media_after_kill"] <= 1:
        say(f"WARNING: {found['media_after_kill']} media after kill -9 instead of {found['media_expected']}")
    volume.stop()

    if with_check:
        found["check"] = timed(lambda: volume.command("check", "--key-file", volume.key, volume.store))
    found["load"] = os.getloadavg()[0]
    return found


def table(results):
    """The results as Markdown: rows are measurements, columns are sizes."""
    head = ["media"] + [f"{result['media']:,}" for result in results]
    lines = [head, ["---"] + ["---:"] * len(results)]
    for key, name, digits in ROWS:
        if any(key in result for result in results):
            cells = [f"{result[key]:,.{digits}f}" if key in result else "-" for result in results]
            lines.append([name] + cells)
    for key, name in [("create_tenths", "create, each tenth (files/s)"), ("rss_tenths", "memory after each (MiB)")]:
        lines.append([name] + [" ".join(f"{value:g}" for value in result.get(key, [])) or "-" for result in results])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sizes(text):
    """A list of numbers of media."""
    numbers = [int(part.replace("_", "")) for part in text.split(",")]
    if min(numbers) < 100 or any(number % 10 for number in numbers):
        raise argparse.ArgumentTypeError("sizes are multiples of ten from 100 on")
    return numbers


def arguments():
    """The command line."""
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wamedia", default="target/release/wamedia", help="the binary (default: %(default)s)")
    parser.add_argument(
        "--media", type=sizes, default="1000,10000,100000,1000000", help="numbers of media (default: %(default)s)"
    )
    parser.add_argument("--dir", help="where to work; everything is made in a directory below (default: $TMPDIR)")
    parser.add_argument("--index-cache", metavar="SIZE", help="mount with this cache of the index (default: the mount's own)")
    parser.add_argument("--json", help="write the results here too, after each size")
    parser.add_argument("--check", action="store_true", help="measure `wamedia check` of the unmounted store too")
    return parser.parse_args()


def main():
    """Runs all sizes."""
    options = arguments()
    wamedia = shutil.which(options.wamedia)
    if wamedia is None:
        sys.exit(f"scale: {options.wamedia} is no program")
    if os.geteuid() != 0:
        sys.exit("scale: only root can empty the kernel's caches of names")
    # An end by SIGTERM cleans up as one by SIGINT does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    base = Path(tempfile.mkdtemp(prefix="wamedia-scale.", dir=options.dir)).resolve()
    pool = multiprocessing.get_context("fork").Pool(WRITERS, signal.signal, (signal.SIGTERM, signal.SIG_DFL))
    try:
        for media in options.media:
            place = base / str(media)
            place.mkdir()
            cache = ["--index-cache", options.index_cache] if options.index_cache else []
            volume = Volume(os.path.abspath(wamedia), place, cache)
            try:
                results.append(measure(volume, pool, media, options.check))
            finally:
                volume.remove()
            if options.json:
                Path(options.json).write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    finally:
        pool.terminate()
        shutil.rmtree(base, ignore_errors=True)
        if results:
            print(table(results))


if __name__ == "__main__":
    main()
