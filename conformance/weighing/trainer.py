"""Trainers under test: what each item counts for in full windows, in the last, and which samples.

A trainer is a function `train(model, dataset, batch_size, accumulate)` that is declared with
`runs="trainer"` and promises a formula. It is asked in fresh processes that torchrun starts.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf
from pathlib import Path

import numpy as np

from conformance.core.implementations import Implementation
from conformance.weighing.formula import Cell, Formula, counts_around
from conformance.weighing.naming import constant_factor, is_loss_scale, mistakes
from conformance.weighing.probe import traced
from conformance.weighing.probe_layout import Layout, layout_of
from conformance.weighing.probe_trace import Trace
from conformance.weighing.promises import formulas
from conformance.weighing.weights import Weights, sentence

_SHOWN = 4  # micro-batches that are told of a wrong formula
_STARTING, _ENDING = 300.0, 15.0  # seconds for the imports, and beside each question
_LAST_LINES = 4  # of what a trainer that failed printed
_TRIES = 3  # of a question whose port another process takes


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
        return layout_of("next_token", lengths=self.lengths)


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
        kind: full, last, or uneven: of steps that not all ranks took.
        status: conforms, fail or not-exercised.
        formula: that the weights have.
        names: of mistakes: one of them, or where `are_facts`, all of them.
        lines: what was seen.
        are_facts: whether the names are of what is so whatever was promised.
    """

    kind: str
    status: str
    formula: str = ""
    names: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    are_facts: bool = False


@dataclass(frozen=True)
class TrainerVerdict:
    """On one question to one trainer.

    Attributes:
        parts: the full windows; the last ones; the steps that not all ranks took.
        samples: what was repeated or dropped; no fault of an average, and told apart.
        problem: why there is no verdict.
        kind: of the problem: unsupported, error or not-exercised.
    """

    question: TrainerQuestion
    promise: str
    parts: tuple[Part, ...] = ()
    samples: tuple[str, ...] = ()
    problem: str = ""
    kind: str = "not-exercised"

    @property
    def status(self) -> str:
        """Return conforms, fail, error, unsupported or not-exercised."""
        if self.problem:
            return self.kind
        statuses = {part.status for part in self.parts}
        return next((s for s in ("fail", "not-exercised") if s in statuses), "conforms")


def ask(
    trainers: Sequence[Implementation],
    questions: Sequence[TrainerQuestion] = QUESTIONS,
    seconds: float = 120.0,
) -> Iterator[tuple[Implementation, TrainerVerdict]]:
    """Ask trainers of one file every question, in W processes that torchrun starts; judge them.

    Where another process took a port before the trainer did, the question is asked again.

    Args:
        trainers: declared by one adapter.
        questions: of one W.
        seconds: that one question may take.
    """
    asked = [(trainer, question) for trainer in trainers for question in questions]
    verdicts: dict[int, TrainerVerdict] = {}
    for _ in range(_TRIES):
        left = [n for n in range(len(asked)) if n not in verdicts or is_of_a_port(verdicts[n])]
        if not left:
            break
        with tempfile.TemporaryDirectory(prefix="conformance-trainer-") as name:
            folder = Path(name)
            output = _run([asked[n] for n in left], folder, seconds)
            for at, n in enumerate(left):
                verdicts[n] = _verdict(*asked[n], at, folder, output)
    for trainer in trainers:
        own = [verdicts[n] for n, (each, _) in enumerate(asked) if each is trainer]
        yield from ((trainer, verdict) for verdict in _narrowed(own))


def _narrowed(verdicts: Sequence[TrainerVerdict]) -> Iterator[TrainerVerdict]:
    """Yield verdicts on one trainer, without names that come of as many micro-batches as ranks.

    W and K look alike then, and in no question where they are two numbers.
    """
    told = {
        name
        for verdict in verdicts
        if verdict.question.accumulate not in (1, verdict.question.world)
        for part in verdict.parts
        if part.kind == "full"
        for name in part.names
    }

    def narrowed(part: Part) -> Part:
        names = tuple(name for name in part.names if name in told)
        return replace(part, names=names) if names and not part.are_facts else part

    for verdict in verdicts:
        is_unclear = verdict.question.accumulate == verdict.question.world
        yield replace(verdict, parts=tuple(map(narrowed, verdict.parts))) if is_unclear else verdict


def is_of_a_port(verdict: TrainerVerdict) -> bool:
    """Whether a port that was free as the question was asked was somebody else's at its turn."""
    return any(words_ in verdict.problem.lower() for words_ in ("eaddrinuse", "address already in"))


def _run(
    asked: Sequence[tuple[Implementation, TrainerQuestion]], folder: Path, seconds: float
) -> str:
    """Run every question, and return what the processes printed outside of them."""
    origin, world = asked[0][0].origin, asked[0][1].world
    words_ = {
        "adapter": str(Path(origin).resolve()) if origin.endswith(".py") else origin,
        "seconds": seconds,
        "asks": [
            {
                "name": trainer.name,
                "lengths": list(question.lengths),
                "batch_size": question.batch_size,
                "accumulate": question.accumulate,
                "port": port,
            }
            for (trainer, question), port in zip(asked, _free_ports(len(asked)), strict=True)
        ],
    }
    (folder / "asks.json").write_text(json.dumps(words_), encoding="utf-8")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(world), "-m", "conformance.weighing.torch_trainer", str(folder),
    ]  # fmt: skip
    with (folder / "output").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )  # fmt: skip
        try:
            process.wait(_STARTING + (seconds + _ENDING) * len(asked))
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return output.read()


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, each with a free one above it."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            with suppress(OSError, OverflowError):
                own, above = (stack.enter_context(socket.socket()) for _ in range(2))
                own.bind(("127.0.0.1", 0))
                port = int(own.getsockname()[1])
                above.bind(("127.0.0.1", port + 1))
                ports.append(port)
    return ports


def _verdict(
    trainer: Implementation, question: TrainerQuestion, number: int, folder: Path, output: str
) -> TrainerVerdict:
    files = [folder / f"{number}-rank-{rank}.json" for rank in range(question.world)]
    records = [json.loads(f.read_text(encoding="utf-8")) for f in files if f.exists()]
    declined = [record["unsupported"] for record in records if "unsupported" in record]
    if declined:
        return TrainerVerdict(question, trainer.promise, problem=declined[0], kind="unsupported")
    # The first rank that failed says why; the others miss it.
    records.sort(key=lambda record: bool("error" in record) and float(record["ended"]))
    errors = [record["error"] for record in records if "error" in record]
    if errors or len(records) < question.world:
        own = folder / f"{number}.output"
        text = own.read_text(encoding="utf-8", errors="replace") if own.exists() else output
        tail = " / ".join(text.strip().splitlines()[-_LAST_LINES:])
        said = errors[0] if errors else f"a rank did not end in time, or died: {tail}"
        return TrainerVerdict(question, trainer.promise, problem=said, kind="error")
    try:
        done = traced(records, question.layout)
    except ValueError as error:
        return TrainerVerdict(question, trainer.promise, problem=str(error))
    return judge(done, question, trainer.promise)


def judge(done: Trace, question: TrainerQuestion, promise: str) -> TrainerVerdict:
    """Return the verdict on what a trainer did."""
    (wanted,) = formulas(promise)
    done = _without(wanted.factor, done)
    full = _part("full", done.full, done, wanted)
    last = _part("last", done.last, done, wanted) if done.last is not None else None
    if last is not None and full.status == last.status == "fail":
        last = _as_full(last, full, done)
    if done.micro_batches < question.accumulate and done.full is not None:
        said = f"a step came after {done.micro_batches} micro-batches where K is "
        full = replace(
            full, status="fail", names=(*full.names, "accumulation-ignored"), are_facts=True,
            lines=(f"{said}{question.accumulate}", *full.lines),
        )  # fmt: skip
    uneven = _part("uneven", done.uneven, done, wanted) if done.uneven is not None else None
    parts = tuple(part for part in (full, last, uneven) if part is not None)
    return TrainerVerdict(question, promise, parts, tuple(_samples(done)))


def _without(factor: Fraction, done: Trace) -> Trace:
    """Return what was done with weights over the factor that is promised."""
    if factor == 1:
        return done

    def over(weights: Weights | None) -> Weights | None:
        if weights is None:
            return None
        low, high = weights.low / float(factor), weights.high / float(factor)
        low, high = np.nextafter(low, -inf), np.nextafter(high, inf)
        return replace(weights, values=weights.values / float(factor), low=low, high=high)

    whole = over(done.weights)
    assert whole is not None
    return replace(
        done, weights=whole, full=over(done.full), last=over(done.last), uneven=over(done.uneven)
    )  # fmt: skip


def _part(kind: str, weights: Weights | None, done: Trace, promised: Formula) -> Part:
    if weights is None:
        return Part(kind, "not-exercised", lines=("no full window",))
    every = done.weights.cells
    cells = [cell for cell in done.cells_of(weights) if cell.count]
    wanted = Formula(promised.powers)
    reading = done.reading(weights)

    def told(reading: object) -> str:
        return str(reading) if promised.factor == 1 else f"{promised.factor} · {reading}"

    formula = told(reading)
    if weights.faults:
        # Of one name the first fault says enough: there may be one in every step.
        facts = {fault.partition(":")[0]: fault for fault in reversed(weights.faults)}
        lines = tuple(fault.partition("\n")[0] for fault in reversed(facts.values()))
        return Part(kind, "fail", formula, tuple(reversed(facts)), lines, are_facts=True)
    if any(cell.low == -inf or cell.high == inf for cell in cells):
        lines = ("every item of a micro-batch was fed twice in one step: only sums are known",)
        return Part(kind, "not-exercised", formula, lines=lines)
    present = len({cell.rank for cell in cells})
    if kind == "uneven" and wanted.fits(cells, present):
        powers = {"W_present" if s == "W" else s: e for s, e in wanted.powers.items()}
        return Part(kind, "conforms", told(Formula(powers)))
    if wanted.fits(cells, done.weights.world):
        return Part(kind, "conforms", formula)
    names = mistakes(cells, done.weights.world, str(wanted)) or ()
    by_full = _with_full_k(wanted)
    if kind == "last" and reads(by_full, cells, every, done.weights.world):
        names, formula = ("short-window-divided-by-k",), told(by_full)
    seen = tuple(sentence(cell) for cell in cells[:_SHOWN])
    factor = constant_factor(cells, done.weights.world, wanted.powers)
    if not names and factor and is_loss_scale(factor) and factor[0] > 1:
        names = ("loss-scale-left-in",)
    elif not names and factor and not done.has_lr:
        lines = (f"parameters moved {sum(factor) / 2:.4g} times as far: is the learning rate 1?",)
        return Part(kind, "not-exercised", formula, lines=(*seen, *lines))
    return Part(kind, "fail", formula, names, seen)


def _as_full(last: Part, full: Part, done: Trace) -> Part:
    """Return the last windows' verdict with the names of the full ones, if one formula is both's.

    A last window has fewer micro-batches, maybe as many as there are ranks, so that what is W there
    may as well be K.
    """
    assert done.full is not None
    assert done.last is not None
    simplest, every = done.reading(done.full).simplest, done.weights.cells
    cells = [cell for cell in done.cells_of(done.last) if cell.count]
    if done.weights.faults or simplest is None or not full.names:
        return last
    if not reads(simplest, cells, every, done.weights.world):
        return last
    return replace(last, names=full.names, formula=full.formula)


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


def _samples(done: Trace) -> Iterator[str]:
    if done.repeated:
        told = ", ".join(f"{sample} ({times} times)" for sample, times in done.repeated.items())
        yield f"samples fed more than once: {told}"
    if done.dropped:
        yield f"samples never fed: {', '.join(map(str, done.dropped))}"
    if done.unstepped:
        yield f"{len(done.unstepped)} items were backpropagated and came into no step"
