#!/usr/bin/env python3
"""Times Haul's main paths as whole processes, beside floors and peers in the same run.

    python3 tests/bench/bench.py [--haul target/release/haul] [--runs 15] [NAME…]

Prints one Markdown table for each benchmark: medians, with minimum and maximum. Every Haul figure comes from the real
binary with its own private controller and agent, the store synced to the disk under --dir. A peer that is not installed
is left out, and said so. Runs of what is compared alternate, so that a busy moment of the machine hits all of them.
"""

import argparse
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

from peers import HyperQueue, Missing, Ssh

MS = 1e3


class Bench:
    """A scratch directory with a Haul of its own."""

    def __init__(self, haul, scratch, runs, hyperqueue):
        self.haul, self.runs, self.hyperqueue_python = str(Path(haul).resolve()), runs, hyperqueue
        self.peers, self.missing = {}, []
        self.dir = Path(tempfile.mkdtemp(prefix="haul-bench-", dir=scratch))
        run = self.dir / "run"
        run.mkdir(mode=0o700)
        self.env = os.environ | {
            "HOME": str(self.dir), "XDG_RUNTIME_DIR": str(run), "XDG_STATE_HOME": str(self.dir / "state"),
            "XDG_CACHE_HOME": str(self.dir / "cache"), "HAUL_SLOTS": "2", "HAUL_LOG": "warn",
        }
        self.work = self.dir / "work"
        self.work.mkdir()

    def peer(self, name, start):
        """A peer that is started once, or None, with a note for the table."""
        if name not in self.peers:
            try:
                self.peers[name] = start()
            except Missing as why:
                self.peers[name] = None
                self.missing.append(f"{name} is left out: {why}.")
        return self.peers[name]

    def ssh(self):
        return self.peer("ssh", lambda: Ssh(self.dir))

    def hyperqueue(self):
        return self.peer("HyperQueue", lambda: HyperQueue(self.dir, self.hyperqueue_python))

    def close(self):
        for peer in filter(None, self.peers.values()):
            peer.close()
        subprocess.run([self.haul, "local", "stop"], env=self.env, capture_output=True)
        time.sleep(0.5)
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *arguments, cwd=None, stdout=subprocess.DEVNULL):
        command = [self.haul, "--quiet", "run", *map(str, arguments)]
        return subprocess.run(command, env=self.env, cwd=cwd or self.work, stdout=stdout, check=True)

    def daemons(self):
        """Process ids of the controller and the agent of this bench."""
        found = {}
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                words = (proc / "cmdline").read_bytes().split(b"\0")
                if str(self.dir).encode() in (proc / "environ").read_bytes() and b"__daemon" in words:
                    found[words[words.index(b"__daemon") + 1].decode()] = int(proc.name)
            except OSError:
                continue
        return found


def timed(action):
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def compare(title, contenders, runs, note=""):
    """Times the contenders in turn and prints a table."""
    times = {name: [] for name, _ in contenders}
    for round_ in range(runs + 1):
        for name, action in contenders:
            took = timed(action)
            if round_ > 0:
                times[name].append(took)
    rows = [(name, statistics.median(t) * MS, min(t) * MS, max(t) * MS) for name, t in times.items()]
    table(title, ["", "median ms", "min", "max"], [(n, f"{m:.2f}", f"{a:.2f}", f"{b:.2f}") for n, m, a, b in rows], note)
    return {name: m for name, m, _, _ in rows}


def table(title, head, rows, note=""):
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    if note:
        print(f"\n{note}")
    sys.stdout.flush()


def submit(bench):
    """Submit to exit of /bin/true, in an unchanged directory."""
    (bench.work / "a.txt").write_text("unchanged")
    scratch = bench.dir / "floor"
    scratch.write_bytes(bytes(65536))
    with open(scratch, "r+b") as file:
        os.fsync(file.fileno())

        def sync():
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fdatasync(file.fileno())

        peers = []
        if ssh := bench.ssh():
            peers.append(("ssh 127.0.0.1 /bin/true", lambda: subprocess.run(ssh.command("/bin/true"), check=True)))
        compare("Submit to exit of `/bin/true`, whole process", [
            ("haul run /bin/true", lambda: bench.run("/bin/true")),
            ("haul version (starts, prints, ends)", lambda: subprocess.run([bench.haul, "version"], env=bench.env, stdout=subprocess.DEVNULL)),
            ("spawn /bin/true", lambda: subprocess.run(["/bin/true"])),
            ("overwrite 4 KiB, fdatasync", sync),
            *peers,
        ], bench.runs * 2, " ".join(bench.missing))


def array(bench):
    """Many tasks of one array through one agent with two slots."""
    for many in (1000, 10000):
        contenders = [
            ("haul run --array", lambda: bench.run("--array", f"1-{many}", "/bin/true")),
            ("xargs -P2 -n1", lambda: subprocess.run(f"seq {many} | xargs -P2 -n1 /bin/true", shell=True, check=True)),
        ]
        notes = bench.missing
        if queue := bench.hyperqueue():
            notes = [*notes, HyperQueue.NOTE]
            contenders.append(("HyperQueue, a worker with two cores", lambda: queue.run(many)))
        times = {name: [] for name, _ in contenders}
        for _ in range(3):
            for name, action in contenders:
                times[name].append(timed(action))
        rows = [(name, f"{many / statistics.median(t):.0f}", f"{statistics.median(t):.2f}") for name, t in times.items()]
        table(f"{many:,} tasks of `/bin/true`, two slots", ["", "tasks/s", "median s"], rows, " ".join(notes))


LINES = "import sys\nline='x'*99+'\\n'\nout=sys.stdout\nfor i in range(1000000): out.write(line)\n"


def lines(bench):
    """1,000,000 lines of 100 bytes from the script to this process."""
    script = bench.work / "lines.py"
    script.write_text(LINES)
    fast = bench.work / "fast.sh"
    fast.write_text("#!/bin/sh\nyes " + "x" * 99 + " | head -n 1000000\n")
    fast.chmod(0o755)

    def through(command):
        with subprocess.Popen(command, env=bench.env, cwd=bench.work, stdout=subprocess.PIPE) as process:
            total = 0
            while chunk := process.stdout.read(1 << 20):
                total += len(chunk)
        assert total == 100_000_000, total

    peers = []
    if ssh := bench.ssh():
        peers.append(("ssh 127.0.0.1 (yes | head)", lambda: through(ssh.command(str(fast)))))
    compare("1,000,000 lines of 100 bytes, script to client", [
        ("haul run (yes | head)", lambda: through([bench.haul, "--quiet", "run", "fast.sh"])),
        ("a bare pipe (yes | head)", lambda: through(["./fast.sh"])),
        ("haul run (python, buffered)", lambda: through([bench.haul, "--quiet", "run", "--no-env", "lines.py"])),
        ("a bare pipe (python, buffered)", lambda: through([sys.executable, "lines.py"])),
        *peers,
    ], max(3, bench.runs // 3), " ".join([
        "PYTHONUNBUFFERED=1 is set in jobs: the Python script then writes each line by itself.", *bench.missing]))


def latency(bench):
    """From a line's write to its arrival at the client's stdout."""
    script = bench.work / "tick.py"
    script.write_text("import time\nfor i in range(300):\n    print(time.time_ns(), flush=True)\n    time.sleep(0.01)\n")
    command = [bench.haul, "--quiet", "run", "--no-env", "tick.py"]
    with subprocess.Popen(command, env=bench.env, cwd=bench.work, stdout=subprocess.PIPE) as process:
        late = [(time.time_ns() - int(line)) / 1e6 for line in process.stdout]
    late.sort()
    table("A written line seen by the client", ["p50 ms", "p99 ms", "max ms"],
          [(f"{late[150]:.2f}", f"{late[296]:.2f}", f"{late[-1]:.2f}")], "300 lines, one each 10 ms.")


def snapshot(bench):
    """5,000 files, 200 MB."""
    random.seed(7)
    words = [bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(5000)]

    def make(where):
        for index in range(5000):
            path = where / f"d{index % 100:02}" / f"f{index}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            body = b" ".join(random.choices(words, k=3300)) + random.randbytes(20000)
            path.write_bytes((body * 2)[:40000])

    cold, rsync, copied, unchanged, changed, again = [], [], [], [], [], []
    tools = shutil.which("rsync")
    for round_ in range(3):
        tree = bench.dir / f"tree{round_}"
        make(tree)
        subprocess.run(["find", tree, "-type", "f", "-exec", "cat", "{}", "+"], stdout=subprocess.DEVNULL)
        cold.append(timed(lambda: bench.run("/bin/true", cwd=tree)))
        for _ in range(5):
            unchanged.append(timed(lambda: bench.run("/bin/true", cwd=tree)))
        for turn in range(3):
            (tree / "d00" / "f0.txt").write_text(f"changed {turn} {round_}")
            changed.append(timed(lambda: bench.run("/bin/true", cwd=tree)))
        if tools:
            rsync.append(timed(lambda: subprocess.run(["rsync", "-az", f"{tree}/", bench.dir / f"r{round_}"], check=True)))
            again.append(timed(lambda: subprocess.run(["rsync", "-az", f"{tree}/", bench.dir / f"r{round_}"], check=True)))
        copied.append(timed(lambda: subprocess.run(["cp", "-r", tree, bench.dir / f"c{round_}"], check=True)))
    stats = [timed(lambda: subprocess.run(["find", tree, "-printf", "%s %T@\n"], stdout=subprocess.DEVNULL)) for _ in range(5)]
    rows = [("haul run /bin/true, cold: sent, stored, unpacked, run", cold), ("haul run, unchanged", unchanged),
            ("haul run, one file changed", changed), ("cp -r", copied), ("find -printf (stat of each file)", stats)]
    if tools:
        rows[3:3] = [("rsync -az, cold, local", rsync), ("rsync -az, unchanged", again)]
    table("A directory of 5,000 files, 200 MB", ["", "median ms"], [(n, f"{statistics.median(t) * MS:.0f}") for n, t in rows],
          "" if tools else "rsync is not installed.")


def idle(bench):
    """What the daemons take when nothing happens."""
    bench.run("/bin/true")
    time.sleep(3)
    rows = []
    before = {name: cpu(pid) for name, pid in bench.daemons().items()}
    time.sleep(10)
    for name, pid in bench.daemons().items():
        status = Path(f"/proc/{pid}/status").read_text()
        rss, anon = (int(status.split(f"{key}:")[1].split()[0]) / 1024 for key in ("VmRSS", "RssAnon"))
        rows.append((name, f"{rss:.1f}", f"{anon:.1f}", f"{(cpu(pid) - before[name]) / 10 * 100:.2f} %"))
    table("Idle", ["", "RSS MiB", "of it anonymous", "of a core"], rows, f"haul: {os.path.getsize(bench.haul) / 1e6:.1f} MB.")


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ALL = {"submit": submit, "array": array, "lines": lines, "latency": latency, "snapshot": snapshot, "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--haul", default="target/release/haul")
    parser.add_argument("--dir", default=None, help="where to put scratch files (default: the temporary directory)")
    parser.add_argument("--hyperqueue", default=sys.executable, metavar="PYTHON", help="an interpreter that has HyperQueue")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(ALL)} (default: all)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in arguments.names or ALL:
        bench = Bench(arguments.haul, arguments.dir, arguments.runs, arguments.hyperqueue)
        try:
            ALL[name](bench)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
