"""The buffers that a batch norm keeps: which of the two variances, and with which momentum."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from conformance.arithmetic.running import Approximate, Running
from conformance.compare.catalogue import Cause
from conformance.compare.distance import fits
from conformance.compare.layers import compute, mixed
from conformance.compare.trace import Layer

Buffers = Mapping[str, np.ndarray]
ROLES = ("running_mean", "running_var")


@dataclass(frozen=True)
class Kept:
    """One training step of a batch norm: the layer, its weights and buffers before, its input."""

    layer: Layer
    weights: Mapping[str, np.ndarray]
    x: np.ndarray
    dtype: str

    def after(self, momentum: float, *, biased: bool) -> dict[str, Approximate]:
        """The buffers, had the norm this momentum, torch's way, and one of the variances (X2)."""
        state = dict(self._compute(self.weights, momentum))
        if biased:
            count = self.x.size // self.x.shape[1]
            nothing = np.zeros_like(self.weights["running_var"])
            whole = self._compute({**self.weights, "running_var": nothing}, 1.0)["running_var"]
            now = Approximate(whole.value * ((count - 1) / count), whole.error)
            numbers = Running(self.dtype)
            old = numbers.exactly(self.weights["running_var"])
            state["running_var"] = mixed(numbers, old, now, momentum)
        return state

    def _compute(
        self, weights: Mapping[str, np.ndarray], momentum: float
    ) -> Mapping[str, Approximate]:
        layer = replace(self.layer, momentum=momentum)
        return compute(self.dtype, layer, weights, self.x, training=True).state


def is_biased(kept: Kept, given: Buffers) -> bool | None:
    """Which variance a norm with its own momentum keeps; None where it keeps something else."""
    assert kept.layer.momentum is not None
    for biased in (False, True):
        expected = kept.after(kept.layer.momentum, biased=biased)
        if all(fits(given[role], expected[role]) for role in ROLES):
            return biased
    return None


def cause(kept: Kept, given: Buffers, *, biased: bool) -> Cause | None:
    """The momentum and the variance that give both buffers, where `biased` is right."""
    right = kept.layer.momentum
    assert right is not None
    for momentum in _momenta(kept, given["running_mean"]):
        for its in (biased, not biased):
            expected = kept.after(momentum, biased=its)
            if not all(fits(given[role], expected[role]) for role in ROLES):
                continue
            too = "" if its == biased else _variances(kept, biased=its)
            if momentum == right:
                return Cause("biased-running-variance" if its else "unbiased-running-variance", too)
            words = f"the new statistics count {momentum:g} where {right:g} is right"
            is_swapped = momentum == _complement(right)
            if is_swapped:
                words += (
                    ": torch's momentum is the share of the new ones, Flax's that of the old ones, "
                    "1 − torch's"
                )
            name = "batchnorm-momentum-swapped" if is_swapped else "momentum"
            return Cause(name, words + (f"; and {too}" if too else ""))
    return None


def _variances(kept: Kept, *, biased: bool) -> str:
    count = kept.x.size // kept.x.shape[1]
    its, right = (count, count - 1) if biased else (count - 1, count)
    return f"the running variance divides by {its} where the original divides by {right}"


def _complement(momentum: float) -> float:
    return round(1 - momentum, 12)


def _momenta(kept: Kept, given: np.ndarray) -> Iterator[float]:
    """The right one, its complement, and what the running mean shows, to three digits."""
    right = kept.layer.momentum
    assert right is not None
    yield right
    yield _complement(right)
    old = kept.weights["running_mean"].astype(float)
    step = kept.x.astype(float).mean(axis=(0, *range(2, kept.x.ndim))) - old
    if step.any():
        yield float(f"{float((step * (given - old)).sum() / (step * step).sum()):.3g}")
