"""The buffers that a batch norm keeps: which of the two variances, and with which momentum."""

from collections.abc import Iterator

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.catalogue import Cause
from conformance.compare.judge import Followed, Held, hold
from conformance.compare.trace import owner

_U = 2.0**-53


def judged_statistics(followed: Followed) -> list[Held]:
    """What is held of running statistics."""
    return [held for held in followed.held if held.aspect == "running statistics"]


def cause_of_statistics(followed: Followed, held: Held) -> Cause | None:
    """The momentum and the variance that give what the port keeps."""
    settings = _settings(followed, owner(held.name))
    before = followed.before.get(held.name)
    if settings is None or before is None:
        return None
    momentum, count = settings
    is_variance = held.name.endswith(("running_var", "var"))
    for other, factor in _changes(momentum, count, is_variance, held, before):
        expected = _kept(held.first, before, momentum, other, factor)
        if hold(held.name, held.aspect, expected, held.second).ratio > 1:
            continue
        biased = "biased-running-variance" if factor < 1 else "unbiased-running-variance"
        if other == momentum:
            return Cause(biased, "")
        words = f"the new statistics count {other:g} where {momentum:g} is right"
        if other == round(1 - momentum, 12):
            return Cause(
                "batchnorm-momentum-swapped",
                words + ": torch's momentum is the share of the new ones, Flax's that of the old "
                "ones, 1 − torch's",
            )
        return Cause("momentum", words)
    return None


def _settings(followed: Followed, module: str) -> tuple[float, int] | None:
    for call in followed.traces[0].calls:
        if call.module == module and call.settings:
            return float(call.settings["momentum"]), int(call.settings["count"])
    return None


def _changes(
    momentum: float, count: int, is_variance: bool, held: Held, before: np.ndarray
) -> Iterator[tuple[float, float]]:
    """The right momentum, its complement, and what the answer shows, with either variance."""
    factors = [1.0]
    if is_variance and count > 1:
        factors = [1.0, (count - 1) / count, count / (count - 1)]
    momenta = [momentum, round(1 - momentum, 12)]
    now = (held.first.value - (1 - momentum) * before) / momentum
    for factor in factors:
        step = factor * now - before
        if step.any():
            shown = float((step * (held.second.value - before)).sum() / (step * step).sum())
            momenta.append(float(f"{shown:.3g}"))
    yield from (
        (m, f) for m in dict.fromkeys(momenta) for f in factors if (m, f) != (momentum, 1.0)
    )


def _kept(
    right: Approximate, before: np.ndarray, momentum: float, other: float, factor: float
) -> Approximate:
    """The statistic that the original would keep with another momentum or variance."""
    now = (right.value - (1 - momentum) * before) / momentum
    value = (1 - other) * before + other * factor * now
    scale = other * factor / momentum
    sizes = np.abs(before) + np.abs(now) + np.abs(right.value)
    return Approximate(value, right.error * scale + 64 * _U * sizes * max(scale, 1.0))
