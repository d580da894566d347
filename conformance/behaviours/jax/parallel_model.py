"""A model of pmap, pmean and shard_map: which gradient each shard must have.

A model of a psum'd or pmean'd loss needs to know how JAX pulls a cotangent back through a
collective. With the check of what varies, parameters that all shards share get the sum of the
shards' cotangents; without it each shard keeps its own cotangent, and a psum pulls back by a psum.
"""

import numpy as np

from conformance.behaviours.jax.cases import multiples, padded_shards
from conformance.core.dtypes import DTYPES, text

Answers = dict[str, np.ndarray]
_MODES = ("pmap", "checked", "unchecked")
_UNCHECKED = ("pmap", "unchecked")


def _psum(values: np.ndarray) -> np.ndarray:
    """Sums over the shards, on every shard."""
    return np.broadcast_to(values.sum(axis=0), values.shape).copy()


def _pmean(values: np.ndarray) -> np.ndarray:
    return _psum(values) / np.float32(len(values))


def _through(mode: str, own: np.ndarray, loss: str) -> np.ndarray:
    """Returns the gradient on each shard of its own loss, or of a psum'd or pmean'd loss.

    Args:
        mode: the way to run a step.
        own: the gradients of the shards' own losses, (W, …).
        loss: `own`, `psum` or `pmean`.
    """
    world = np.float32(len(own))
    if mode == "checked":
        return _psum(own) / (world if loss == "pmean" else np.float32(1))
    cotangent = {"own": np.float32(1), "psum": world, "pmean": world / world}[loss]
    return own * cotangent


def _refused(name: str, kind: str) -> Answers:
    return {f"{name}/raised": text(kind), f"{name}/says": np.array(True)}


def _indivisible(count: int, devices: int) -> str:
    """Returns the error for an axis that pmap cannot shard, or shards and cannot squeeze."""
    return "IndivisibleError" if count % devices else "ValueError"


def pmap_leading_axis(*, devices: int) -> Answers:
    """Uses as many devices as the leading axis is long (J1)."""
    lengths = np.arange(1, devices + 1)
    return {
        "devices": lengths,
        "counted": lengths,
        **_refused("longer", _indivisible(devices + 1, devices)),
        **_refused("multiple", _indivisible(2 * devices, devices)),
    }


def pmap_unequal_axes(*, devices: int) -> Answers:
    """Refuses leading axes of different lengths (J2)."""
    lengths = {"second-shorter": (devices, devices - 1), "first-shorter": (1, devices)}
    answers: Answers = {}
    for name, (first, second) in lengths.items():
        for arguments in (name, f"{name}/tree"):
            answers |= _refused(arguments, _indivisible(second, first))
    return answers


def pmap_is_shard_map(*, devices: int) -> Answers:
    """Is a jit of an unchecked shard_map (J3)."""
    del devices
    return {
        "jaxpr": text("jit shard_map"),
        "check_vma": np.array([False]),
        "same_bits": np.array(True),
        "sharding_has_shard_map": np.array(False),
    }


def pmean_is_psum_divided(*, devices: int) -> Answers:
    """Divides a psum by the number of shards (J4)."""
    answers: Answers = {}
    for mode in _MODES:
        answers[f"{mode}/operations"] = text("psum div")
        answers[f"{mode}/divisors"] = np.array([devices], dtype=np.float32)
    return answers


def pmean_rounding(*, devices: int, dtype: str) -> Answers:
    """Multiplies by the rounded reciprocal; it is the quotient where W is a power of two (J4)."""
    numbers = np.arange(1, 301, dtype=DTYPES[dtype].carrier)
    unit, world = numbers.dtype.type(1), numbers.dtype.type(devices)
    product = numbers * (unit / world)
    ways = (*_MODES, "vmap", "eager-division", "jit-division")
    unlike = np.array(int((product != numbers / world).sum()))
    return {**dict.fromkeys(ways, product), "unlike-quotient": unlike}


def checked_gradient(*, devices: int) -> Answers:
    """Sums the shards' gradients (J5)."""
    return {"gradient": _through("checked", multiples(devices), "own")}


def checked_gradient_reduced_again(*, devices: int) -> Answers:
    """Averages or sums that sum again, without a warning (J6)."""
    summed = _through("checked", multiples(devices), "own")
    answers = {"pmean": _pmean(summed), "psum": _psum(summed)}
    return answers | {f"{name}/silent": np.array(True) for name in answers}


def averaged_in_every_mode(*, devices: int) -> Answers:
    """Averages: parameters that vary have each shard's own gradient, checked or not (J7)."""
    own = multiples(devices)
    answers: Answers = {}
    for mode in _MODES:
        answers[f"averaged-loss/{mode}"] = _pmean(_through(mode, own, "pmean"))
        answers[f"varying/{mode}"] = _pmean(own)
    return answers


def averaged_loss_alone(*, devices: int) -> Answers:
    """Averages with the check alone (J7)."""
    return {mode: _through(mode, multiples(devices), "pmean") for mode in _MODES}


def own_gradient(*, devices: int) -> Answers:
    """Returns each shard's own gradient without the check (J8)."""
    return {mode: _through(mode, multiples(devices), "own") for mode in _UNCHECKED}


def declared_replicated(*, devices: int) -> Answers:
    """Takes the first shard's value for a value that is declared equal on all shards (J8)."""
    answers = _refused("checked", "ValueError")
    for mode in _UNCHECKED:
        answers[mode] = _through(mode, multiples(devices), "own")[0]
        answers[f"{mode}/silent"] = np.array(True)
    return answers


def summed_loss(*, devices: int) -> Answers:
    """Returns W times each shard's own gradient, or with the check the sum (J9)."""
    return {mode: _through(mode, multiples(devices), "psum") for mode in _MODES}


def gradient_outside(*, devices: int) -> Answers:
    """Returns the gradient of the mean or of the sum of the shards' losses (J10)."""
    own = multiples(devices)
    right = {"mean": _pmean(own)[0], "sum": _psum(own)[0], "per-shard": _pmean(own)[0]}
    modes = ("checked", "unchecked")
    return {f"{name}/{mode}": gradient for name, gradient in right.items() for mode in modes}


def unequal_shards(*, devices: int) -> Answers:
    """Refuses shards of different lengths (J16)."""
    del devices
    return _refused("checked", "ValueError") | _refused("unchecked", "ValueError")


def masked_shards(*, devices: int) -> Answers:
    """Returns three averages of padded shards (J16)."""
    samples, weights = padded_shards(devices)
    sums = (weights[..., None] * samples).sum(axis=1)
    counts = weights.sum(axis=1, keepdims=True)
    averages = {
        "sums-over-counts": _psum(sums) / _psum(counts),
        "mean-of-masked-means": _pmean(sums / counts),
        "mean-of-plain-means": _pmean(samples.mean(axis=1)),
    }
    return {f"{name}/{mode}": average for name, average in averages.items() for mode in _MODES}
