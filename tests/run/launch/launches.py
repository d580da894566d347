"""Launches on loopback, as users start them: processes whose environment is marked."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
MARK = "CONFORMANCE_LAUNCH_OF_A_TEST"


class Launch:
    """Two nodes that ask the same, in processes that are known by a mark in their environment."""

    def __init__(self, folder, *arguments, timeout=60):
        self.folder, self.mark = folder, secrets.token_hex(8)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.logs = [folder / f"node-{node}.log" for node in range(2)]
        asked = ["--report", folder / "report", "--timeout", timeout, *arguments]
        self.nodes = [
            subprocess.Popen(
                [sys.executable, "-m", *map(str, (*self.command(node, port), *asked))],
                cwd=folder,
                env={**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
            )
            for node, log in enumerate(self.logs)
        ]

    def command(self, node, port):
        raise NotImplementedError

    @property
    def results(self):
        return self.folder / "report" / "results.jsonl"

    def wait(self, seconds=240):
        return [node.wait(seconds) for node in self.nodes]

    def said(self):
        return "\n".join(log.read_text() for log in self.logs)

    def exit_codes(self):
        """Of the workers that ended otherwise than with 0, as torchrun's summaries have them."""
        return [int(code) for code in re.findall(r"exitcode\s*: (-?\d+)", self.said())]

    def living(self):
        """The processes that this launch started and that are still there."""
        return [pid for pid in marked(self.mark) if pid != os.getpid()]

    def end(self):
        for node in self.nodes:
            node.kill()
            node.wait()


class Torchrun(Launch):
    """Two agents of two processes each."""

    def command(self, node, port):
        yield from ("torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 2)
        yield from ("--node-rank", node, "--master-addr", "127.0.0.1", "--master-port", port)
        yield from ("-m", "conformance", "worker")


class Jax(Launch):
    """Two processes of four devices each."""

    def command(self, node, port):
        yield from ("conformance", "worker", "--jax", "--coordinator", f"127.0.0.1:{port}")
        yield from ("--processes", 2, "--process", node, "--cpu-devices", 4)


def marked(mark):
    """The processes with this mark in their environment, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(folder.name)] if state != "Z" else []
        except OSError:
            continue
    return found


def until(condition, seconds):
    late = time.monotonic() + seconds
    while not condition() and time.monotonic() < late:
        time.sleep(0.05)
    return condition()
