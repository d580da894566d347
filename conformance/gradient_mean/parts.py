"""The parts of a right average, which a wrong average combines otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from conformance.arithmetic import Plain
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean import definition as oracle
from conformance.gradient_mean.models import model_of

Gradients: TypeAlias = dict[str, np.ndarray]
ByRank: TypeAlias = Sequence[Gradients]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a right answer in float64, exact where the case is exact.

    Attributes:
        question: the question of the case.
        inputs: the tensors of the case.
        promise: the promise under which the answer is right.
    """

    question: GradientQuestion
    inputs: Mapping[str, np.ndarray]
    promise: str
    _parts: dict[tuple[int, int, int, float], Gradients] = field(default_factory=dict, repr=False)

    @property
    def world(self) -> int:
        """Returns W."""
        return self.question.world_size

    @property
    def is_mean(self) -> bool:
        """Says whether the promise divides."""
        return self.promise != "rank_sum"

    @cached_property
    def right(self) -> Gradients:
        """Returns the right gradients."""
        return dict(oracle.averaged(Plain(), self.question, self.inputs, self.promise))

    def span(self, rank: int, k: int) -> slice:
        """Returns the samples of micro-batch k that the rank has."""
        ends = np.cumsum((0, *self.question.shards[k])).tolist()
        return slice(ends[rank], ends[rank + 1])

    def part(self, k: int, samples: slice, raised: float = 0.0) -> Gradients:
        """Returns the gradient of the loss on these samples, with parameters raised so much."""
        key = (k, samples.start, samples.stop, raised)
        if key not in self._parts:
            self._parts[key] = {name: np.zeros(shape) for name, shape in self._shapes.items()}
            if samples.start < samples.stop:
                state = {name: values + raised for name, values in self._state.items()}
                self._parts[key] |= oracle.gradient(
                    Plain(), self.question, self.inputs, state, (k, samples)
                )
        return self._parts[key]

    def filled(self, rank: int, k: int) -> Gradients:
        """Returns the rank's gradient of micro-batch k, padded with zeros to the longest shard."""
        samples = self.span(rank, k)
        more = max(self.question.shards[k]) - (samples.stop - samples.start)
        inputs = {
            name: np.concatenate([array[samples], np.zeros((more, *array.shape[1:]), array.dtype)])
            for name, array in self.inputs.items()
            if name.split("/")[:2] in (["inputs", str(k)], ["targets", str(k)])
        }
        whole = (k, slice(0, max(self.question.shards[k])))
        gradients = oracle.gradient(Plain(), self.question, inputs, self._state, whole)
        return {name: gradients.get(name, np.zeros(shape)) for name, shape in self._shapes.items()}

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return model_of(self.question).parameters()

    @cached_property
    def _state(self) -> dict[str, np.ndarray]:
        return oracle.state_of(Plain(), self.inputs)

    def own(self, rank: int, ks: Sequence[int] | None = None, raised: float = 0.0) -> Gradients:
        """Returns the rank's own gradient, of all micro-batches or of some."""
        chosen = range(self.question.micro_batches) if ks is None else ks
        return total([self.part(k, self.span(rank, k), raised) for k in chosen])

    def reduced(self, by_rank: ByRank) -> Gradients:
        """Sums the ranks' gradients, and divides by W where the promise does."""
        return scaled(total(by_rank), 1 / self.world if self.is_mean else 1.0)

    def everywhere(self, gradients: Gradients) -> ByRank:
        """Puts the same gradients on every rank."""
        return [gradients] * self.world


def total(terms: Sequence[Gradients]) -> Gradients:
    """Sums gradients, parameter by parameter."""
    return {name: np.sum([term[name] for term in terms], axis=0) for name in terms[0]}


def scaled(gradients: Gradients, factor: float) -> Gradients:
    """Multiplies gradients by a factor."""
    return {name: values * factor for name, values in gradients.items()}
