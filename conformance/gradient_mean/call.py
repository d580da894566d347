"""The call of an implementation of the gradient mean, the same for every framework."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeAlias

import numpy as np

from conformance.core.outcomes import Answer, WrongAnswer
from conformance.core.questions import GradientQuestion

# A micro-batch in NumPy: inputs and targets, and for JAX and NumPy weights; the targets of several
# heads are a tuple.
Batch: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """The arguments of one call of an implementation.

    Attributes:
        function: the implementation.
        question: the question of the check.
        start: `parameter/NAME` and `buffer/NAME` for every parameter and buffer of the model.
        batches: K micro-batches, in the form that the framework takes.
        device: a kind of device, or one device.
        devices_needed: how many devices the function cannot do without.
        group: the process group of the ranks, where the function runs in each of them.
        windows: how many micro-batches each window has; empty where the function takes no windows.
        changes: where the call notes what it changed in its process and left so.
    """

    function: Callable[..., Any]
    question: GradientQuestion
    start: Mapping[str, np.ndarray]
    batches: Sequence[Batch]
    device: str
    devices_needed: int = 1
    group: Any = None
    windows: tuple[int, ...] = ()
    changes: list[str] = field(default_factory=list)


def last_window(call: Call, batches: Sequence[Batch], *arguments: Any) -> Any:
    """Calls the function, and returns what it gives; of windows what it yields after the last.

    Args:
        call: the call.
        batches: all micro-batches, in the framework's own arrays.
        arguments: two arguments before these, and one behind them.

    Raises:
        WrongAnswer: if it is no generator, or ends before the last window.
    """
    *before, behind = arguments
    if not call.windows:
        return call.function(*before, batches, behind)
    remaining = iter(batches)
    windows = [list(islice(remaining, length)) for length in call.windows]
    steps = call.function(*before, windows, behind)
    if not isinstance(steps, Iterator):
        raise WrongAnswer(f"gave {type(steps).__name__}, where steps='several' yields every window")
    yielded = list(islice(steps, len(windows)))
    if len(yielded) < len(windows):
        raise WrongAnswer(f"ended after {len(yielded)} of {len(windows)} windows")
    # A generator that is closed here cannot wait for other ranks.
    return yielded[-1]


class Framework(Protocol):
    """The calls that a framework's module makes: `in_torch`, `in_jax` and `in_numpy`.

    Each returns what the case observes of the model or the gradients afterwards, in NumPy. Each may
    raise Unsupported, NotExercised or WrongAnswer, and passes on errors of the implementation.
    """

    def per_rank(self, call: Call) -> Answer:
        """Calls the function in one of W processes, which has its own samples."""

    def one_process(self, call: Call) -> Answer:
        """Calls the function once for W devices; of fewer devices, each stands for several."""

    def virtual(self, call: Call) -> Answer:
        """Calls the function once for W ranks on one device, which the list repeats W times."""
