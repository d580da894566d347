"""Trainers under test: what each item counts for in full windows, in the last, and which samples.

A trainer is a function `train(model, dataset, batch_size, accumulate)` that is declared with
`runs="trainer"` and promises a formula. It is asked in fresh processes that torchrun starts.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.core.implementations import Implementation
from conformance.weighing.formula import Cell, Formula, counts_around
from conformance.weighing.mistakes import words
from conformance.weighing.naming import mistakes
from conformance.weighing.probe import GAIN
from conformance.weighing.probe_log import from_plain, rank_steps
from conformance.weighing.probe_trace import Layout, Trace, trace
from conformance.weighing.promises import formulas
from conformance.weighing.weights import Weights, sentence

_SHOWN = 4  # micro-batches that are told of a wrong formula
_LAST_LINES = 4  # of what a trainer that failed printed


@dataclass(frozen=True)
class TrainerQuestion:
    """What a trainer is asked.

    Attributes:
        name: of the question.
        lengths: items of each sample.
        world: W.
        batch_size: samples of a micro-batch.
        accumulate: K.
    """

    name: str
    lengths: tuple[int, ...]
    world: int = 2
    batch_size: int = 2
    accumulate: int = 1

    @property
    def layout(self) -> Layout:
        """Return which items a sample has."""
        return Layout(self.lengths, max(self.lengths) + 1, shifts=True)


# Nineteen samples are no whole number of windows, or of ranks: the last window is short where K is
# more than 1, and a sampler has one sample too few. Three micro-batches tell K from W.
_EQUAL, _UNEQUAL = (3,) * 19, (2, 5, 1, 4, 3, 6, 1, 2, 7, 3, 1, 5, 2, 4, 6, 1, 3, 2, 5)
QUESTIONS = tuple(
    TrainerQuestion(f"{name}-k{k}", lengths, accumulate=k)
    for name, lengths in (("equal", _EQUAL), ("unequal", _UNEQUAL))
    for k in (1, 2, *((3,) if name == "unequal" else ()))
)


@dataclass(frozen=True)
class Part:
    """The verdict on the steps of full windows, or of last ones.

    Attributes:
        kind: full or last.
        status: conforms, fail or not-exercised.
        formula: that the weights have.
        names: of mistakes.
        lines: what was seen.
    """

    kind: str
    status: str
    formula: str = ""
    names: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainerVerdict:
    """On one question to one trainer.

    Attributes:
        parts: the full windows, and the last ones.
        samples: what was repeated or dropped; no fault of an average, and told apart.
        problem: why there is no verdict.
        is_error: whether the trainer failed.
    """

    question: TrainerQuestion
    promise: str
    parts: tuple[Part, ...] = ()
    samples: tuple[str, ...] = ()
    problem: str = ""
    is_error: bool = False

    @property
    def status(self) -> str:
        """Return conforms, fail, error or not-exercised."""
        if self.problem:
            return "error" if self.is_error else "not-exercised"
        statuses = {part.status for part in self.parts}
        return next((s for s in ("fail", "not-exercised") if s in statuses), "conforms")


def ask(declared: Implementation, question: TrainerQuestion, seconds: float) -> TrainerVerdict:
    """Run a trainer in W processes that torchrun starts, and judge what it did."""
    with tempfile.TemporaryDirectory(prefix="conformance-trainer-") as folder:
        records, output = records_of(declared, question, Path(folder), seconds)
    missing = [record["missing"] for record in records if "missing" in record]
    if missing:
        return TrainerVerdict(
            question, declared.promise, problem=f"{missing[0]} is not installed"
        )  # fmt: skip
    errors = [record["error"] for record in records if "error" in record]
    if errors or len(records) < question.world:
        tail = " / ".join(output.strip().splitlines()[-_LAST_LINES:])
        said = errors[0] if errors else f"it did not end within {seconds:g} s, or died: {tail}"
        return TrainerVerdict(question, declared.promise, problem=said, is_error=True)
    try:
        done = traced(records, question.layout)
    except ValueError as error:
        return TrainerVerdict(question, declared.promise, problem=str(error))
    return judge(done, question, declared.promise)


def traced(records: Sequence[dict[str, Any]], layout: Layout) -> Trace:
    """Return what the ranks' records say."""
    import numpy as np

    logs = [
        rank_steps(
            from_plain(record["events"]),
            None if record["end"] is None else np.array(record["end"], float),
        )
        for record in records
    ]
    return trace(logs, layout, GAIN, 1.0)


def records_of(
    declared: Implementation, question: TrainerQuestion, folder: Path, seconds: float
) -> tuple[list[dict[str, Any]], str]:
    """Return what every rank saw, and what all of them printed."""
    origin = declared.origin
    words_ = {
        "adapter": str(Path(origin).resolve()) if origin.endswith(".py") else origin,
        "name": declared.name,
        "lengths": list(question.lengths),
        "batch_size": question.batch_size,
        "accumulate": question.accumulate,
    }
    (folder / "ask.json").write_text(json.dumps(words_), encoding="utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(question.world), "-m", "conformance.weighing.torch_trainer",
        str(folder),
    ]  # fmt: skip
    with (folder / "output").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        text = output.read()
    files = [folder / f"rank-{rank}.json" for rank in range(question.world)]
    return [json.loads(f.read_text(encoding="utf-8")) for f in files if f.exists()], text


def judge(done: Trace, question: TrainerQuestion, promise: str) -> TrainerVerdict:
    """Return the verdict on what a trainer did."""
    parts = [_part("full", done.full, done, promise), _part("last", done.last, done, promise)]
    if done.micro_batches < question.accumulate and done.full is not None:
        parts[0] = Part(
            "full", "fail", parts[0].formula, (*parts[0].names, "accumulation-ignored"),
            (f"a step came after {done.micro_batches} micro-batches where K is "
             f"{question.accumulate}", *parts[0].lines),
        )  # fmt: skip
    return TrainerVerdict(
        question, promise, tuple(part for part in parts if part), tuple(_samples(done))
    )


def _part(kind: str, weights: Weights | None, done: Trace, promise: str) -> Part | None:
    if weights is None:
        return None if kind == "last" else Part(kind, "not-exercised", lines=("no full window",))
    every = done.weights.cells
    steps = set(weights.steps.tolist())
    cells = [cell for cell in every if cell.step in steps and cell.count]
    formula = str(done.reading(weights))
    if weights.faults:
        names = tuple(fault.partition(":")[0] for fault in weights.faults)
        return Part(kind, "fail", formula, names, weights.faults)
    if any(not -float("inf") < cell.low or cell.high == float("inf") for cell in cells):
        lines = ("every item of a micro-batch was fed twice in one step: only sums are known",)
        return Part(kind, "not-exercised", formula, lines=lines)
    (wanted,) = formulas(promise)
    if wanted.fits(cells, done.weights.world):
        return Part(kind, "conforms", formula)
    names = mistakes(cells, done.weights.world, promise) or ()
    by_full = _with_full_k(wanted)
    if kind == "last" and reads(by_full, cells, every, done.weights.world):
        names, formula = ("short-window-divided-by-k",), str(by_full)
    return Part(kind, "fail", formula, names, tuple(_lines(cells, names)))


def _with_full_k(formula: Formula) -> Formula:
    """Return a formula with the K of a full window in the place of the window's own."""
    powers = {"K_full" if s == "K" else s: e for s, e in formula.powers.items()}
    return Formula(powers, formula.factor)


def reads(formula: Formula, cells: Sequence[Cell], every: Sequence[Cell], world: int) -> bool:
    """Whether a formula is inside the intervals of some cells, counted among those of all steps."""
    kept = set(map(id, cells))
    counted = [cell for cell in every if cell.count]
    for cell, counts in zip(counted, counts_around(counted, world), strict=True):
        value = formula.value(counts)
        if id(cell) in kept and (value is None or not cell.low <= value <= cell.high):
            return False
    return True


def _lines(cells: Sequence[Cell], names: Sequence[str]) -> Iterator[str]:
    yield from (sentence(cell) for cell in cells[:_SHOWN])
    for name in names:
        yield from (line for line in (words(name).done,) if line)
        if words(name).advice:
            yield f"write: {words(name).advice}"


def _samples(done: Trace) -> Iterator[str]:
    if done.repeated:
        told = ", ".join(f"{sample} ({times} times)" for sample, times in done.repeated.items())
        yield f"samples fed more than once: {told}"
    if done.dropped:
        yield f"samples never fed: {', '.join(map(str, done.dropped))}"
    if done.unstepped:
        yield f"{len(done.unstepped)} items were backpropagated and came into no step"
