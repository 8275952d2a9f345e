#!/usr/bin/env python3
"""Measures a real `haul-controller`, over TLS, with many agents, jobs and followers at once.

    cargo build --release --bins && cargo build --release -p haul-tests --example scale
    cargo build --release -p haul-transport --features client,server --example flood
    python3 tests/bench/scale.py [--target target/release] [--agents 1000] [--jobs 100000] [PART…]

The agents are simulated, in one process (`scale.rs`), each with a certificate and a connection of its own; everything is
on 127.0.0.1, store and logs are synced to the disk under --dir. Prints what came of each part as it is known, one line of
JSON each with the load of the machine beside it, and a Markdown table at the end. Parts, in their order:

    idle       agents connected and idle: the controller's memory and processor time; and one real agent's
    restart    the controller is killed while each agent has an attempt: how soon all are back, with nothing lost
    jobs       many jobs are submitted by several clients while others list and ask; then the controller is killed again
    follow     many follow one log
    flood      stalled handshakes and calls taken back at once, beside honest calls
"""

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARTS = ["idle", "restart", "jobs", "follow", "flood"]
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Process:
    """A daemon, and what it takes."""

    def __init__(self, words, log, **how):
        self.words, self.how = [str(word) for word in words], how
        self.log = open(log, "ab")
        self.start()

    def start(self):
        self.child = subprocess.Popen(self.words, stderr=self.log, stdin=subprocess.DEVNULL, **self.how)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def memory(self, name="VmRSS"):
        """Resident bytes; `VmHWM`: the most there ever were."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"{self.words[0]} is gone; see {self.log.name}")

    def seconds(self):
        """Processor time so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def over(self, seconds):
        """The share of a processor that it takes over so long a time."""
        before, began = self.seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.seconds() - before) / (time.monotonic() - began)


class Everybody:
    """`scale.rs`: told what to do, one line each; answers."""

    def __init__(self, program, token, scratch):
        words = [program, token, scratch]
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()

    def answer(self):
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit("the clients are gone")
        return json.loads(line)

    def tell(self, *words):
        self.begin(*words)
        return self.answer()


class Scale:
    def __init__(self, options):
        self.options, self.rows = options, []
        self.target = Path(options.target).resolve()
        self.dir = Path(tempfile.mkdtemp(prefix="haul-scale-", dir=options.dir))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        state = self.dir / "controller"
        made = subprocess.run(
            [self.target / "haul-controller", "init", "--state-dir", state, "--address", self.address],
            capture_output=True, text=True, check=True)
        self.token = made.stdout.strip()
        (state / "controller.toml").write_text(f'addresses = ["{self.address}"]\nlisten = "{self.address}"\n')
        self.environment = os.environ | {"HAUL_LOG": "warn"}
        words = [self.target / "haul-controller", "--state-dir", state]
        # With the usual limit on open files, which it is to raise itself.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.controller = Process(words, self.dir / "controller.log", env=self.environment,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most)))
        self.everybody = Everybody(self.target / "examples/scale", self.token, self.dir)
        self.joined = 0

    def close(self):
        self.everybody.child.kill()
        self.everybody.child.wait()
        self.controller.kill()
        if not self.options.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def say(self, part, **found):
        print(json.dumps({"part": part, **found, "load": os.getloadavg()[0]}), flush=True)

    def row(self, what, value):
        self.rows.append((what, value))

    def join(self):
        """The controller's memory before and after all have joined and are connected."""
        if self.joined:
            return
        self.everybody.tell("fleet")
        self.empty, began = self.controller.memory(), time.monotonic()
        self.everybody.tell("join", self.options.agents)
        self.joined = 1
        self.say("join", seconds=time.monotonic() - began, before_mib=self.empty / MIB)

    def fill(self):
        """Each agent holds an attempt."""
        self.join()
        held = self.everybody.tell("fleet")["attempts"]
        if held < self.options.agents:
            self.everybody.tell("submit", self.options.agents - held, 8)
        self.everybody.tell("held", self.options.agents)

    def idle(self):
        self.join()
        time.sleep(self.options.seconds / 3)
        share = self.controller.over(self.options.seconds)
        memory = self.controller.memory()
        each = (memory - self.empty) / self.options.agents
        self.say("idle", controller_mib=memory / MIB, each_kib=each / 1024, share=share)
        many = f"{self.options.agents:,} agents idle"
        self.row(f"{many}: controller", f"{memory / MIB:.0f} MiB, {share:.1%} of a core")
        self.row(f"{many}: memory for each", f"{each / 1024:.0f} KiB")
        self.real_agent()

    def real_agent(self):
        haul = [self.target / "haul", "--quiet", "token", "create", "--role", "agent"]
        environment = self.environment | {"HOME": str(self.dir), "HAUL_TOKEN": self.token}
        token = subprocess.run(haul, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        state = self.dir / "agent"
        subprocess.run([self.target / "haul-agent", "join", token, "--state-dir", state, "--name", "real"],
                       env=environment, check=True, capture_output=True)
        agent = Process([self.target / "haul-agent", "--state-dir", state], self.dir / "agent.log", env=environment)
        try:
            while self.everybody.tell("fleet")["connected"] <= self.options.agents:
                time.sleep(0.1)
            time.sleep(2)
            share = agent.over(self.options.seconds)
            self.say("agent", mib=agent.memory() / MIB, share=share)
            self.row("a real agent, idle", f"{agent.memory() / MIB:.1f} MiB, {share:.2%} of a core")
        finally:
            agent.child.send_signal(signal.SIGTERM)
            agent.child.wait()

    def kill_and_start(self, away=0):
        """How long it takes until all are back, from the start, which follows the kill; and what they say then."""
        sessions = self.everybody.tell("connected", 0)["sessions"]
        self.controller.kill()
        time.sleep(away)
        started = time.time()
        self.controller.start()
        tally = self.everybody.tell("connected", sessions + 1)
        return tally["at"] - started, tally

    def restart(self):
        self.fill()
        took = []
        # The last time it is away for so long that the agents try less and less often.
        for away in [0] * self.options.runs + [self.options.away]:
            seconds, tally = self.kill_and_start(away)
            took.append(seconds)
            fleet, states = self.everybody.tell("fleet"), self.everybody.tell("count")["states"]
            self.say("restart", away=away, seconds=seconds, processor=self.controller.seconds(), states=states, fleet=fleet, **{
                name: tally[name] for name in ["held", "started_twice", "repeated", "unwanted"]})
        wrong = tally["started_twice"] + tally["unwanted"] + abs(fleet["attempts"] - self.options.agents)
        self.row(f"kill -9, start: {self.options.agents:,} agents, each with an attempt, are back after",
                 f"{min(took[:-1]):.1f} to {max(took[:-1]):.1f} s; {wrong} attempts lost, unwanted or started twice")
        self.row(f"the same, after {self.options.away} s without a controller", f"{took[-1]:.1f} s")

    def jobs(self):
        self.fill()
        load = self.everybody.tell("submit", self.options.jobs, self.options.clients)
        peak = self.controller.memory("VmHWM")
        count = self.everybody.tell("count")
        self.say("jobs", **load, pages=count, controller_mib=self.controller.memory() / MIB, most_mib=peak / MIB)
        many = f"{self.options.jobs:,} jobs in line"
        self.row(f"{many}: submitted by {self.options.clients} clients",
                 f"{self.options.jobs / load['seconds']:,.0f}/s; p50 {load['submit']['p50']:.1f} ms, "
                 f"p99 {load['submit']['p99']:.1f} ms")
        for name, what in [("list", "ListJobs of 100 meanwhile"), ("get", "GetJob, and why it waits, meanwhile")]:
            self.row(f"{many}: {what}", f"p50 {load[name]['p50']:.1f} ms, p99 {load[name]['p99']:.1f} ms")
        self.row(f"{many}: a page of 1,000", f"p50 {count['page']['p50']:.1f} ms, p99 {count['page']['p99']:.1f} ms")
        self.row(f"{many}: controller", f"{self.controller.memory() / MIB:.0f} MiB")
        seconds, tally = self.kill_and_start()
        began = time.monotonic()
        fleet = self.everybody.tell("fleet")
        self.say("jobs, restarted", seconds=seconds, **tally, fleet=fleet, processor=self.controller.seconds(),
                 controller_mib=self.controller.memory() / MIB)
        self.row(f"{many}: kill -9, start: all agents back after", f"{seconds:.1f} s")

    def follow(self):
        self.fill()
        cpu = self.controller.seconds()
        self.everybody.begin("follow", self.options.followers, self.options.lines, self.options.lines // 20)
        found = self.everybody.answer()
        cpu = self.controller.seconds() - cpu
        self.say("follow", **found, processor=cpu, controller_mib=self.controller.memory() / MIB,
                 most_mib=self.controller.memory("VmHWM") / MIB)
        self.row(f"{self.options.followers} followers of {self.options.lines:,} lines in {found['seconds']:.0f} s",
                 f"{found['whole']} got every byte; a line: p50 {found['delay']['p50']:.0f} ms, p99 "
                 f"{found['delay']['p99']:.0f} ms; controller {self.controller.memory() / MIB:.0f} MiB, "
                 f"{cpu:.1f} s of a core")

    def flood(self):
        root = self.everybody.tell("root")["root"]
        words = [self.target / "examples/flood", self.address, root, str(self.controller.child.pid)]
        found = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        for line in found.splitlines():
            with_whom, _, value = line.partition(": ")
            self.say("flood", words=line)
            self.row(f"flood: {with_whom}", value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="target/release", help="where the programs are")
    parser.add_argument("--dir", default=None, help="where to keep everything meanwhile")
    parser.add_argument("--keep", action="store_true", help="leave it there")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30, help="how long idleness is watched")
    parser.add_argument("--runs", type=int, default=3, help="how often the controller is killed")
    parser.add_argument("--away", type=int, default=15, help="how long it is away the last time, in seconds")
    parser.add_argument("parts", nargs="*", metavar="PART")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # For the clients; the controller raises its own.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    scale = Scale(options)
    try:
        for part in options.parts or PARTS:
            getattr(scale, part)()
    finally:
        scale.close()
    print("\n| | |\n|---|---|")
    for what, value in scale.rows:
        print(f"| {what} | {value} |")


if __name__ == "__main__":
    sys.exit(main())
