"""How an implementation of the gradient mean is called, in whatever framework it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from conformance.core.outcomes import Answer
from conformance.core.questions import GradientQuestion

# One micro-batch in NumPy: inputs and targets, and in JAX and NumPy weights; the targets of several
# heads are a tuple.
Batch: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """What an implementation is called with.

    Attributes:
        function: the implementation.
        question: what is asked.
        start: `parameter/NAME` and `buffer/NAME` for every parameter and buffer of the model.
        batches: K micro-batches, in the form that the framework takes.
        device: a kind, or one device.
        devices_needed: how many devices the function cannot do without.
        group: the process group of the ranks, where the function runs in each of them.
    """

    function: Callable[..., Any]
    question: GradientQuestion
    start: Mapping[str, np.ndarray]
    batches: Sequence[Batch]
    device: str
    devices_needed: int = 1
    group: Any = None


class Framework(Protocol):
    """The calls that a framework's module makes: `in_torch`, `in_jax` and `in_numpy`.

    Each returns what is observed of the model or the gradients afterwards, in NumPy, and raises
    Unsupported, NotExercised or WrongAnswer, or whatever the implementation raises.
    """

    def per_rank(self, call: Call) -> Answer:
        """Calls the function in one of W processes, which has its own samples."""

    def one_process(self, call: Call) -> Answer:
        """Calls the function once for W devices; of fewer, each is several of the W."""

    def virtual(self, call: Call) -> Answer:
        """Calls the function once for W ranks on one device, which is handed over W times."""
