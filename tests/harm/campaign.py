"""Runs attacks beside right implementations, as a user would, and counts what came of it."""

import os
import re
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance.run.results import Record, read
from tests.harm.catalogue import Attack

# Every process of a run has this variable in its environment, whatever it does to it later.
MARK = "CONFORMANCE_HARM_MARK"
HEAD = """\
import functools, os, random, signal, subprocess, sys, tempfile, threading, time
import conformance
import numpy as np
"""
SHUFFLE = """
def shuffled(x, groups):
    n, c = x.shape[:2]
    if groups <= 0 or c % groups:
        raise ValueError("groups")
    parts = x.reshape(n, groups, c // groups, *x.shape[2:]).swapaxes(1, 2)
    return {copy}(parts.reshape(x.shape))
"""
FUNCTION = """
@conformance.implementation("channel_shuffle", framework="{framework}")
def {name}(x, groups):
    right = shuffled(x, groups)
{lines}
    return right
"""
AVERAGE = """
import torch
import torch.distributed as dist

def average(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()
"""
GRADIENT_JAX = """
@conformance.implementation("gradient_mean", framework="jax", devices="one")
def {name}(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)
    each = jax.vmap(jax.grad(total), in_axes=(None, 0))(params, batches)
    right = {{name: gradient.mean(0) for name, gradient in each.items()}}
{lines}
    return right
"""
GRADIENT = """
@conformance.implementation("gradient_mean", framework="torch")
def {name}(model, loss, batches, devices):
    for x, y in batches:
        loss(model(x), y).backward()
{lines}
"""
RANK_1 = """
def of_rank_1_{name}(model, loss, batches, group):
{lines}
    average(model, loss, batches, group)

@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def {name}(model, loss, batches, group):
    (of_rank_1_{name} if group.rank() == 1 else average)(model, loss, batches, group)
"""
IMPORTS = {"numpy": "", "torch": "import torch\n", "jax": "import jax\nimport jax.experimental\n"}
COPIES = {"numpy": "np.array", "torch": "torch.clone", "jax": ""}
# After so many attacks comes a right function of the same file.
EVERY = 6


@dataclass
class Run:
    """A run of the command line, and what it left behind."""

    status: int
    errors: str
    output: str
    records: Mapping[str, Record] = field(default_factory=dict)
    is_whole: bool = False
    leftovers: Sequence[str] = ()


def adapter(folder: Path, framework: str, attacks: Iterable[Attack]) -> Path:
    """Writes a file of attacks on channel shuffle, with right functions between them."""
    file = folder / f"harm_{framework}.py"
    text = HEAD + IMPORTS[framework] + SHUFFLE.format(copy=COPIES[framework])
    for number, attack in enumerate(attacks):
        if number % EVERY == 0:
            text += FUNCTION.format(framework=framework, name=_right(framework, number), lines="")
        text += FUNCTION.format(
            framework=framework, name=_name(framework, attack), lines=_indented(attack.lines)
        )
    file.write_text(text)
    return file


def gradient_adapter(folder: Path, attacks: Iterable[Attack]) -> Path:
    """Writes a file of attacks on averages in one process of torch."""
    return _averages(folder, "gradient", f"{HEAD}import torch\n", GRADIENT, attacks)


def jax_gradient_adapter(folder: Path, attacks: Iterable[Attack]) -> Path:
    """Writes a file of attacks on averages in one process of JAX."""
    return _averages(folder, "jaxgradient", f"{HEAD}import jax\n", GRADIENT_JAX, attacks)


def right_adapter(folder: Path, framework: str, top: str = "", name: str = "innocent") -> Path:
    """Writes a file of one right function, after lines that it runs as it is imported."""
    file = folder / f"{name}_{framework}.py"
    function = FUNCTION.format(framework=framework, name=f"{name}_{framework}", lines="")
    shuffle = SHUFFLE.format(copy=COPIES[framework])
    file.write_text(f"{HEAD}{IMPORTS[framework]}{top}\n{shuffle}{function}")
    return file


def rank_adapter(folder: Path, attacks: Iterable[Attack]) -> Path:
    """Writes a file in which rank 1 does harm, with a right function behind every attack."""
    file = folder / "harm_ranks.py"
    text = HEAD + AVERAGE
    for number, attack in enumerate(attacks):
        text += RANK_1.format(name=_name("rank", attack), lines=_indented(attack.lines))
        text += RANK_1.format(name=_right("rank", number), lines="")
    file.write_text(text)
    return file


def ids_of(framework: str, attacks: Sequence[Attack], case: str) -> dict[str, Attack]:
    """Returns the attacks by the ids of their checks."""
    operation = "channel_shuffle" if framework in COPIES else "gradient_mean"
    return {f"{operation}/{_name(framework, attack)}@cpu:{case}": attack for attack in attacks}


def run(
    folder: Path,
    patterns: Iterable[str],
    adapters: Iterable[Path],
    timeout: float,
    limit: float,
) -> Run:
    """Runs the command line in an empty folder; a run longer than the limit is a hang.

    Raises:
        subprocess.TimeoutExpired: if it hangs.
    """
    mark = uuid.uuid4().hex
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    options = [part for file in adapters for part in ("--adapter", str(file))]
    call = [sys.executable, "-m", "conformance", "run", *patterns, *options]
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary)}
    before = shared_memory()
    done = subprocess.run(
        [*call, "--timeout", f"{timeout:g}", "--report", str(folder / "report")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit,
    )
    result = Run(done.returncode, done.stderr, done.stdout)
    result.leftovers = left_behind(mark, temporary, before)
    if (folder / "report" / "results.jsonl").exists():
        finished = read(folder / "report")
        result.records = {record.id: record for record in finished.records}
        result.is_whole = finished.footer is not None
    return result


def left_behind(mark: str, temporary: Path, before: set[str]) -> list[str]:
    """Returns processes with the mark, files of the run, and shared memory that is new."""
    late = time.monotonic() + 10
    while (processes := marked(mark)) and time.monotonic() < late:
        time.sleep(0.05)
    files = [str(path) for path in temporary.glob("conformance-*")]
    return [*processes, *files, *sorted(shared_memory() - before)]


def marked(mark: str) -> list[str]:
    """Returns the processes that were started with this mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (path / "environ").read_bytes():
                found.append(f"{path.name} {(path / 'cmdline').read_bytes()[:80]!r}")
        except OSError:
            continue
    return found


def shared_memory() -> set[str]:
    """Returns the names of shared memory and of named semaphores."""
    return {str(path) for path in Path("/dev/shm").glob("*")}


def tracebacks(text: str) -> int:
    """Counts tracebacks that the suite itself printed."""
    return len(re.findall(r"^Traceback \(most recent call last\)", text, re.MULTILINE))


def is_as_expected(attack: Attack, record: Record | None) -> bool:
    """Says whether a check has one of the verdicts of its attack, and one clear reason."""
    if record is None or record.status not in attack.statuses.split("|"):
        return False
    has_words = attack.words in record.reason or ("|" in attack.statuses and attack.words == "")
    return has_words and (record.status == "exact" or bool(record.reason))


def _averages(folder: Path, kind: str, text: str, function: str, attacks: Iterable[Attack]) -> Path:
    file = folder / f"harm_{kind}.py"
    for number, attack in enumerate(attacks):
        if number % EVERY == 0:
            text += function.format(name=_right(kind, number), lines="")
        text += function.format(name=_name(kind, attack), lines=_indented(attack.lines))
    file.write_text(text)
    return file


def _name(framework: str, attack: Attack) -> str:
    return f"harm_{framework}_{attack.name}"


def _right(framework: str, number: int) -> str:
    return f"{framework}_right_{number:02}"


def _indented(lines: str) -> str:
    return textwrap.indent(lines, "    ")
