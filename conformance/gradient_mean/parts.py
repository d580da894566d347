"""The parts of a right average, which a wrong average combines otherwise."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from conformance.arithmetic import Plain
from conformance.core.declarations import STEP_MEAN, without_averaging
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean import definition as oracle
from conformance.gradient_mean.models import model_of

# The name of an array that a head has of a micro-batch.
_OF_HEAD = re.compile(r"(targets|weights)/(\d+)/(\d+)")
Gradients: TypeAlias = dict[str, np.ndarray]
ByRank: TypeAlias = Sequence[Gradients]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a right answer in float64, exact where the case is exact.

    Attributes:
        asked: the question of the case.
        tensors: the tensors of the case.
        promise: the promise under which the answer is right.
        number: of the window that the answer is of; -1 is the last.
        apart: whether each rank differentiates at the parameters that it starts from, as code does
            that broadcasts none. What a shard is padded or masked with stays at rank 0's.
    """

    asked: GradientQuestion
    tensors: Mapping[str, np.ndarray]
    promise: str
    number: int = -1
    apart: bool = False
    _parts: dict[tuple[int, int, int], Gradients] = field(default_factory=dict, repr=False)

    @cached_property
    def question(self) -> GradientQuestion:
        """Returns the question of this window alone."""
        return self.asked.window(self.number)[0]

    @cached_property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Returns the tensors of this window alone."""
        return oracle.window_of(self.asked, self.tensors, self.number)[1]

    @cached_property
    def before(self) -> "Parts | None":
        """Returns the parts of the window before, if there is one."""
        if len(self.asked.windows) < 2 or self.number == 0:
            return None
        number = self.number % len(self.asked.windows) - 1
        return replace(self, number=number, _parts={})

    @cached_property
    def without_broadcast(self) -> "Parts | None":
        """Returns the parts of ranks that keep the parameters they start from, where these differ.

        Where samples are coupled, a rank's samples have no gradient of their own.
        """
        is_coupled = self.question.loss == "coupled" or self.question.model == "batch_norm"
        if self.apart or self.question.starts != "different" or is_coupled:
            return None
        return replace(self, apart=True, _parts={})

    @property
    def world(self) -> int:
        """Returns W."""
        return self.question.world_size

    @property
    def adding(self) -> str:
        """Returns the promise whose micro-batches add up."""
        return without_averaging(self.promise)

    @property
    def is_mean(self) -> bool:
        """Says whether the promise divides by W, or by what all ranks have."""
        return self.adding != "rank_sum"

    @cached_property
    def items(self) -> np.ndarray:
        """Returns the sum of the weights that each rank has in each micro-batch: (K, W)."""
        return np.array(self.question.counts, float)

    @cached_property
    def by_term(self) -> tuple["Parts", ...]:
        """Returns the parts of each term of the loss alone, as of a model with one head."""
        terms = []
        for head, counts in enumerate((self.asked.counts, *self.asked.terms)):
            asked = replace(self.asked, model=f"{self.asked.model}/{head}", counts=counts, terms=())
            tensors = {
                _OF_HEAD.sub(r"\1/\2", name) + "/0" * name.startswith("targets/")
                if (of := _OF_HEAD.fullmatch(name)) and int(of[3]) == head
                else name: array
                for name, array in self.tensors.items()
            }
            terms.append(replace(self, asked=asked, tensors=tensors, _parts={}))
        return tuple(terms)

    @cached_property
    def right(self) -> Gradients:
        """Returns the right gradients."""
        if self.apart and self.adding == "sample_mean":
            counts = map(sum, self.question.shards)
            return total([self.part(k, slice(0, samples)) for k, samples in enumerate(counts)])
        if self.apart:
            return self.reduced([self.own(rank) for rank in range(self.world)])
        return dict(oracle.averaged(Plain(), self.question, self.inputs, self.promise))

    def span(self, rank: int, k: int) -> slice:
        """Returns the samples of micro-batch k that the rank has."""
        ends = np.cumsum((0, *self.question.shards[k])).tolist()
        return slice(ends[rank], ends[rank + 1])

    def part(self, k: int, samples: slice) -> Gradients:
        """Returns the gradient of the loss on these samples, at the parameters of their ranks.

        It is taken so often that `reduced` gives the promised sum of them: under averaged
        micro-batches 1/K of it, and in the mean over a step's items W times.
        """
        key = (k, samples.start, samples.stop)
        if key not in self._parts:
            self._parts[key] = {name: np.zeros(shape) for name, shape in self._shapes.items()}
            if samples.start < samples.stop:
                self._parts[key] |= total(
                    self._of_ranks(k, samples) if self.apart else [self._taken(k, samples)]
                )
        return self._parts[key]

    def _of_ranks(self, k: int, samples: slice) -> list[Gradients]:
        """Returns each rank's share in the gradient on these samples, at its own parameters."""
        is_mean = self.question.reduction == "mean" and not self.question.counts
        shares = []
        for rank in range(self.world):
            span = self.span(rank, k)
            own = slice(max(span.start, samples.start), min(span.stop, samples.stop))
            if own.start < own.stop:
                share = (own.stop - own.start) / (samples.stop - samples.start) if is_mean else 1
                shares.append(scaled(self._taken(k, own, float(rank)), share))
        return shares

    def _taken(self, k: int, samples: slice, raised: float = 0.0) -> Gradients:
        """Returns the gradient of the loss on these samples, with parameters raised so much."""
        state = {name: values + raised for name, values in self._state.items()}
        gradients = oracle.gradient(Plain(), self.question, self.inputs, state, (k, samples))
        return scaled(gradients, self._often)

    def with_shares(self, k: int, statistics: np.ndarray, losses: np.ndarray) -> Gradients:
        """Returns the gradient of micro-batch k, whose samples have shares of their own.

        Args:
            k: the micro-batch.
            statistics: the share of each sample in the mean and the variance of batch norms.
            losses: the share of each sample in the loss.
        """
        norms = [layer for layer in model_of(self.question).layers if layer.kind == "batch_norm"]
        shares = {f"{norm.name}.shares": statistics.reshape(-1, 1) for norm in norms}
        question = replace(self.question, counts=((1.0,),))
        inputs = {**self.inputs, f"weights/{k}": losses}
        whole = (k, slice(0, len(losses)))
        gradients = oracle.gradient(Plain(), question, inputs, {**self._state, **shares}, whole)
        return scaled(gradients, self._often)

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
        gradients = scaled(gradients, self._often)
        return {name: gradients.get(name, np.zeros(shape)) for name, shape in self._shapes.items()}

    @cached_property
    def sequences(self) -> np.ndarray:
        """Returns how many samples of each rank and micro-batch have an item: (K, W)."""
        return self._over_shards(has_items)

    def unmasked(self, change: Callable[[np.ndarray], np.ndarray]) -> Gradients:
        """Returns the mean over the items of a step as if weights were others."""
        inputs = {
            name: change(array) if name.startswith("weights/") else array
            for name, array in self.inputs.items()
        }
        counts = tuple(tuple(row) for row in self._over_shards(change).tolist())
        question = replace(self.question, counts=counts)
        return dict(oracle.averaged(Plain(), question, inputs, self.promise))

    def _over_shards(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Sums over each rank's samples of each micro-batch what weights are changed to."""
        ks, ranks = range(self.question.micro_batches), range(self.world)
        changed = [change(self.inputs[f"weights/{k}"]).astype(np.float64) for k in ks]
        return np.array([[changed[k][self.span(rank, k)].sum() for rank in ranks] for k in ks])

    @property
    def _often(self) -> float:
        if self.promise == STEP_MEAN:
            return self.world
        return 1 / self.question.micro_batches if self.adding != self.promise else 1

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return model_of(self.question).parameters()

    @cached_property
    def _state(self) -> dict[str, np.ndarray]:
        return oracle.state_of(Plain(), self.inputs)

    def own(self, rank: int, ks: Sequence[int] | None = None) -> Gradients:
        """Returns the rank's own gradient, of all micro-batches or of some."""
        chosen = range(self.question.micro_batches) if ks is None else ks
        return total([self.part(k, self.span(rank, k)) for k in chosen])

    def reduced(self, by_rank: ByRank) -> Gradients:
        """Sums the ranks' gradients, and divides by W where the promise does."""
        return scaled(total(by_rank), 1 / self.world if self.is_mean else 1.0)

    def everywhere(self, gradients: Gradients) -> ByRank:
        """Puts the same gradients on every rank."""
        return [gradients] * self.world


def has_items(weights: np.ndarray) -> np.ndarray:
    """Says of each sample whether it has an item: (n,)."""
    return np.any(weights, axis=tuple(range(1, weights.ndim)))


def norm_of(gradients: Gradients) -> float:
    """Returns the Euclidean norm of all gradients together."""
    return float(np.sqrt(sum(np.sum(values**2) for values in gradients.values())))


def total(terms: Sequence[Gradients]) -> Gradients:
    """Sums gradients, parameter by parameter."""
    return {name: np.sum([term[name] for term in terms], axis=0) for name in terms[0]}


def scaled(gradients: Gradients, factor: float) -> Gradients:
    """Multiplies gradients by a factor."""
    return {name: values * factor for name, values in gradients.items()}
