"""Peers that Haul is timed beside: ssh to this machine, and HyperQueue. Each is started here and ended here, below the
bench's own directory; one that cannot be started is left out, with the reason.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


class Missing(Exception):
    """Why a peer is left out."""


class Ssh:
    """An sshd of our own on a loopback port, with keys of our own; no setting of the user or the machine is read."""

    def __init__(self, scratch):
        sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not (sshd and shutil.which("ssh") and shutil.which("ssh-keygen")):
            raise Missing("ssh, ssh-keygen and sshd are not all installed")
        self.dir = Path(scratch) / "ssh"
        self.dir.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / name], check=True)
        shutil.copy(self.dir / "user.pub", self.dir / "authorized")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.dir / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.dir}/host\nAuthorizedKeysFile {self.dir}/authorized\n"
            "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n")
        # sshd of root insists on this directory, which an init system makes elsewhere.
        self.made = os.getuid() == 0 and not Path("/run/sshd").exists()
        if self.made:
            Path("/run/sshd").mkdir(mode=0o755)
        with open(self.dir / "log", "wb") as log:
            self.server = subprocess.Popen([sshd, "-D", "-e", "-f", self.dir / "config"], stdin=subprocess.DEVNULL, stderr=log)
        try:
            self.wait_until_it_answers()
        except Missing:
            self.close()
            raise

    def wait_until_it_answers(self):
        deadline = time.monotonic() + 10
        while True:
            answer = subprocess.run(self.command("true"), capture_output=True, text=True)
            if answer.returncode == 0:
                return
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"our sshd does not let us in: {answer.stderr.strip().splitlines()[-1:]}")
            time.sleep(0.05)

    def command(self, *words):
        return ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.dir / "user"), "-o", "BatchMode=yes",
                "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR",
                "-o", f"UserKnownHostsFile={self.dir}/known", "127.0.0.1", *words]

    def close(self):
        self.server.terminate()
        self.server.wait()
        if self.made:
            os.rmdir("/run/sshd")


SERVE = """
import sys, tempfile
from pathlib import Path
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
where = Path(sys.argv[1])
with LocalCluster(str(where / "server"), WorkerConfig(cores=2)) as cluster:
    client = cluster.client()
    print("ready", flush=True)
    for line in sys.stdin:
        job = Job(default_workdir=where)
        for index in range(int(line)):
            job.program(["/bin/true"])
        client.wait_for_jobs([client.submit(job)])
        print("done", flush=True)
"""


class HyperQueue:
    """A server, a worker with two cores and a client in one Python process: what `pip install hyperqueue` brings, which
    has no `hq` command. That client looks once a second whether a job has ended, so only long jobs can be timed with it;
    and the server keeps no journal."""

    def __init__(self, scratch, python):
        self.dir = Path(scratch) / "hyperqueue"
        self.dir.mkdir()
        known = subprocess.run([python, "-c", "import hyperqueue"], capture_output=True)
        if known.returncode != 0:
            raise Missing("`import hyperqueue` fails (pip install hyperqueue; --hyperqueue PYTHON names an interpreter that has it)")
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen([python, "-c", SERVE, str(self.dir)], stdin=subprocess.PIPE, text=True,
                                            stdout=subprocess.PIPE, stderr=log)
        # A table of the server's comes first.
        if not any(line == "ready\n" for line in self.process.stdout):
            self.close()
            raise Missing("it does not start: " + (self.dir / "log").read_text(errors="replace").strip()[-200:])

    NOTE = "HyperQueue keeps no journal here, and its Python client looks once a second whether the job has ended."

    def run(self, many):
        self.process.stdin.write(f"{many}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            sys.exit("HyperQueue failed: " + (self.dir / "log").read_text(errors="replace")[-500:])

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
