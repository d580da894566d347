"""What an implementation says of itself, in the words that its decorator takes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from packaging.requirements import InvalidRequirement, Requirement

from conformance.core.dtypes import DTYPES
from conformance.core.outcomes import UsageError
from conformance.core.weight_formula import powers_of

FRAMEWORKS = ("torch", "jax", "numpy")
LAYOUTS = ("channels_last",)
RUNS = ("one_process", "per_rank", "virtual", "trainer")
TRAINER = "trainer"
# The first of each is what holds where nothing is said.
DEVICES = ("each", "one")
BATCHES = ("shard", "whole")
SPANS = ("processes", "process")
MICRO_BATCHES = ("sum", "mean")
STEPS = ("one", "several")
CLIPS = ("none", "norm")
# The promises of an average under which micro-batches either add up or are averaged.
BY_MICRO_BATCH = ("rank_mean", "sample_mean", "rank_sum")
STEP_MEAN = "step_mean"
# The first promise of an operation is the one that holds where none is named.
PROMISES = {
    "channel_shuffle": ("copy", "native", "arithmetic"),
    "gradient_mean": (*BY_MICRO_BATCH, STEP_MEAN),
}
# What a case that names no promise is asked of.
USUAL = {"channel_shuffle": PROMISES["channel_shuffle"], "gradient_mean": BY_MICRO_BATCH}
_AVERAGED = "micro_"
Word = TypeVar("Word", str, int)


@dataclass(frozen=True)
class Implementation:
    """One way to do an operation: what it says of itself, and where its code is.

    `origin` is a file's path or a module's name; `line` is 1-based in that file. The rest is as
    `implementation` takes it.
    """

    operation: str
    name: str
    framework: str
    promise: str
    runs: str
    layout: str | None
    origin: str
    line: int
    needs: tuple[str, ...] = ()
    devices: str = DEVICES[0]
    batch: str = BATCHES[0]
    spans: str = SPANS[0]
    micro_batches: str = MICRO_BATCHES[0]
    steps: str = STEPS[0]
    dtypes: tuple[str, ...] = ()
    ndim: tuple[int, ...] = ()
    clip: str = CLIPS[0]

    @property
    def held_to(self) -> str:
        """What its answers are compared with: its promise, or that of averaged micro-batches."""
        return averaged(self.promise) if self.micro_batches == "mean" else self.promise

    @property
    def id(self) -> str:
        """`operation/name`, unique in a run."""
        return f"{self.operation}/{self.name}"


def averaged(promise: str) -> str:
    """Returns the name of a promise that averages over micro-batches.

    >>> averaged("rank_mean")
    'micro_rank_mean'
    """
    return _AVERAGED + promise


def without_averaging(promise: str) -> str:
    """Returns the promise whose micro-batches add up.

    >>> without_averaging("micro_rank_sum"), without_averaging("rank_sum")
    ('rank_sum', 'rank_sum')
    """
    return promise.removeprefix(_AVERAGED)


def declared(
    operation: str,
    name: str,
    *,
    framework: str,
    promise: str | None = None,
    runs: str | None = None,
    layout: str | None = None,
    needs: str | Sequence[str] = (),
    devices: str | None = None,
    batch: str | None = None,
    spans: str | None = None,
    micro_batches: str | None = None,
    steps: str | None = None,
    dtypes: str | Sequence[str] = (),
    ndim: int | Sequence[int] = (),
    clip: str | None = None,
    origin: str,
    line: int,
) -> Implementation:
    """Returns what the words of a decorator say.

    Raises:
        UsageError: in one line, if a word is unknown or two of them exclude each other.
    """
    place = f"{origin}:{line}: {name}"
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"{place}: a name is letters, digits and underscores; give one, name=…")
    _one_of(place, "operation", operation, PROMISES)
    _one_of(place, "framework", framework, FRAMEWORKS)
    if runs == TRAINER:
        promise = _trainers_promise(place, operation, framework, promise)
    else:
        promise = promise or PROMISES[operation][0]
        _one_of(place, f"promise of {operation}", promise, PROMISES[operation])
    runs, devices = runs or RUNS[0], devices or DEVICES[0]
    batch = batch or BATCHES[0]
    spans = spans or ("process" if devices == "one" else SPANS[0])  # one device is one process's
    _one_of(place, "way to run", runs, RUNS)
    _one_of(place, "devices", devices, DEVICES)
    _one_of(place, "batch", batch, BATCHES)
    _one_of(place, "spans", spans, SPANS)
    if micro_batches is not None:
        _one_of(place, "micro_batches", micro_batches, MICRO_BATCHES)
        if promise not in BY_MICRO_BATCH:
            raise UsageError(
                f"{place}: micro_batches={micro_batches!r} is for {', '.join(BY_MICRO_BATCH)}; "
                f"{promise} is said without it"
            )
    dtypes = _several(place, "dtypes", dtypes, "f32")
    for dtype in dtypes:
        _one_of(place, "dtype", dtype, DTYPES)
    ndim = _several(place, "ndim", ndim, 4)
    if ndim and (operation != "channel_shuffle" or min(ndim) < 2):
        raise UsageError(f"{place}: ndim={ndim} is of a shuffle's (N, C, *spatial), from 2")
    if steps is not None:
        _one_of(place, "steps", steps, STEPS)
    if steps == "several" and (framework, runs) not in (
        ("torch", "per_rank"),
        ("jax", "one_process"),
    ):
        raise UsageError(f"{place}: steps='several' is for torch per_rank and jax one_process")
    if runs == "virtual" and (promise == STEP_MEAN or micro_batches == "mean"):
        raise UsageError(f"{place}: no case asks virtual ranks for a mean over micro-batches")
    if clip is not None:
        _one_of(place, "clip", clip, CLIPS)
    if clip == "norm" and (promise != BY_MICRO_BATCH[0] or micro_batches == "mean"):
        raise UsageError(f"{place}: clip='norm' is asked of {BY_MICRO_BATCH[0]} alone")
    if layout is not None:
        _one_of(place, "layout", layout, LAYOUTS)
    needs = _several(place, "needs", needs, "torch>=2.12")
    for need in needs:
        try:
            Requirement(need)
        except InvalidRequirement as error:
            raise UsageError(
                f"{place}: needs {need!r} is no requirement, as in 'torch>=2.12'"
            ) from error
    return Implementation(
        operation,
        name,
        framework,
        promise,
        runs,
        layout,
        origin,
        line,
        needs,
        devices,
        batch,
        spans,
        micro_batches or MICRO_BATCHES[0],
        steps or STEPS[0],
        dtypes,
        ndim,
        clip or CLIPS[0],
    )


def _trainers_promise(place: str, operation: str, framework: str, promise: str | None) -> str:
    """Returns what a trainer promises that an item counts for, a formula."""
    if (operation, framework) != ("gradient_mean", "torch"):
        raise UsageError(f"{place}: runs='trainer' is for gradient_mean and torch")
    if promise is None:
        raise UsageError(f"{place}: a trainer says what an item counts for: promise='1/N'")
    try:
        powers_of(promise)
    except UsageError as error:
        raise UsageError(f"{place}: promise: {error}") from None
    return promise


def _several(place: str, what: str, value: Any, one: Word) -> tuple[Word, ...]:
    """Returns one word, or several, as several; `one` is an example."""
    values = (value,) if isinstance(value, type(one)) else value
    if isinstance(values, Collection) and all(isinstance(word, type(one)) for word in values):
        return tuple(values)
    raise UsageError(f"{place}: {what}={value!r}: one is meant, as in {one!r}, or several such")


def _one_of(place: str, what: str, value: str, known: Collection[str]) -> None:
    if value not in tuple(known):
        raise UsageError(f"{place}: unknown {what} {value!r}; known: {', '.join(known)}")
