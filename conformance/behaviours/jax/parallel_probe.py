"""Probes pmap, pmean, and gradients inside and outside of shard_map.

The loss is the product of the parameters and the shard, so that a shard's own gradient is the
shard. The answers are named after the three ways to run a step (`modes.MODES`).
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.behaviours.jax.cases import PARAMETERS, multiples, padded_shards
from conformance.behaviours.jax.modes import (
    AXIS,
    MODES,
    UNCHECKED,
    Mode,
    Step,
    devices_of,
    each,
    heard,
    refusal,
    replicated,
    replicated_step,
)
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import DTYPES, bits_of, text
from conformance.core.outcomes import Unsupported


def _own(parameters: Any, shard: Any) -> Any:
    return (parameters * shard).sum()


def _pmean_of_own(parameters: Any, shard: Any) -> Any:
    return lax.pmean(_own(parameters, shard), AXIS)


def _psum_of_own(parameters: Any, shard: Any) -> Any:
    return lax.psum(_own(parameters, shard), AXIS)


_own_gradient = jax.grad(_own)


def pmap_leading_axis(place: Place, *, devices: int) -> Answers:
    """Counts the devices that take part, and asks how a longer axis is refused (J1)."""
    chosen = devices_of(place, devices)
    count = jax.pmap(lambda _: lax.psum(1, AXIS), axis_name=AXIS, devices=chosen)

    def by(length: int) -> Any:
        return count(np.zeros(length, np.float32))

    counts = [by(length) for length in range(1, devices + 1)]
    longer, longer_says = refusal(
        ValueError, f"array axis 0 is partitioned {devices} times", by, devices + 1
    )
    multiple, multiple_says = refusal(
        ValueError, "size not equal to one, got shape=(2,)", by, 2 * devices
    )
    return {
        "devices": np.array([len(counted.devices()) for counted in counts]),
        "counted": np.array([int(np.asarray(counted).min()) for counted in counts]),
        "longer/raised": longer,
        "longer/says": longer_says,
        "multiple/raised": multiple,
        "multiple/says": multiple_says,
    }


def pmap_unequal_axes(place: Place, *, devices: int) -> Answers:
    """Asks how leading axes of different lengths are refused; the first length counts (J2)."""
    chosen = devices_of(place, devices)
    lengths = {"second-shorter": (devices, devices - 1), "first-shorter": (1, devices)}
    answers: dict[str, np.ndarray] = {}
    for name, (first, second) in lengths.items():
        x, y = np.zeros(first, np.float32), np.zeros(second, np.float32)
        as_two = jax.pmap(lambda x, y: x + y, devices=chosen)
        as_tree = jax.pmap(lambda both: both["x"] + both["y"], devices=chosen)
        words = f"array axis 0 is partitioned {first} times" if second % first else "squeeze out"
        raised, says = refusal(ValueError, words, as_two, x, y)
        answers |= {f"{name}/raised": raised, f"{name}/says": says}
        raised, says = refusal(ValueError, words, as_tree, {"x": x, "y": y})
        answers |= {f"{name}/tree/raised": raised, f"{name}/tree/says": says}
    return answers


def pmap_is_shard_map(place: Place, *, devices: int) -> Answers:
    """Reads the jaxpr of a pmap, and compares its bits with those of shard_map (J3).

    On the data, another order of operations would round otherwise.
    """
    chosen = devices_of(place, devices)
    shards = np.arange(1, 5 * devices + 1, dtype=np.float32).reshape(devices, 5) / np.float32(7)
    parameters = np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32)

    def step(parameters: Any, shard: Any) -> Any:
        return lax.pmean(jax.grad(lambda p, x: jnp.tanh(p * x).sum())(parameters, shard), AXIS)

    pmapped = replicated_step(step, "pmap", chosen)
    outer = list(_equations(jax.make_jaxpr(pmapped)(parameters, shards).jaxpr))
    names = [equation.primitive.name for equation in outer[:2]]
    checks = [e.params["check_vma"] for e in outer if e.primitive.name == "shard_map"]
    mesh = Mesh(chosen, (AXIS,))
    by_sharding = jax.jit(
        lambda parameters, shards: (parameters * shards).mean(),
        in_shardings=(NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))),
    )
    others = _equations(jax.make_jaxpr(by_sharding)(parameters, shards).jaxpr)
    by_pmap, by_shard_map = (
        replicated(step, mode, chosen, parameters, shards) for mode in UNCHECKED
    )
    return {
        "jaxpr": text(" ".join(names)),
        "check_vma": np.array(checks),
        "same_bits": np.array(np.array_equal(bits_of(by_pmap), bits_of(by_shard_map))),
        "sharding_has_shard_map": np.array("shard_map" in {e.primitive.name for e in others}),
    }


def pmean_is_psum_divided(place: Place, *, devices: int) -> Answers:
    """Lists the operations of a pmean from the psum on, and the divisors (J4).

    With the check of what varies, psum is called psum_invariant.
    """
    chosen = devices_of(place, devices)
    answers: dict[str, np.ndarray] = {}
    for mode in MODES:
        run = replicated_step(lambda _, shard: lax.pmean(shard, AXIS), mode, chosen)
        jaxpr = jax.make_jaxpr(run)(PARAMETERS, multiples(devices)).jaxpr
        inner = [e for e in _equations(jaxpr) if e.primitive.name not in ("jit", "shard_map")]
        names = [e.primitive.name.removesuffix("_invariant") for e in inner]
        start = names.index("psum") if "psum" in names else 0
        divisors = [e.invars[1].val for e in inner if e.primitive.name == "div"]
        answers[f"{mode}/operations"] = text(" ".join(names[start:]))
        answers[f"{mode}/divisors"] = np.array(divisors, dtype=np.float32)
    return answers


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yields the equations of a jaxpr and of the jaxprs inside it, outer equations first."""
    for equation in jaxpr.eqns:
        yield equation
        inner = equation.params.get("jaxpr")
        if inner is not None:
            yield from _equations(getattr(inner, "jaxpr", inner))


def pmean_rounding(place: Place, *, devices: int, dtype: str) -> Answers:
    """Averages and divides 1 to 300, whose bits show how a mean rounds (J4).

    Raises:
        Unsupported: if the device is not the CPU, about which the clause is.
    """
    if place.device.partition(":")[0] != "cpu":
        raise Unsupported("which way a constant divides is known of XLA on the CPU only")
    chosen = devices_of(place, devices)
    numbers = np.arange(1, 301, dtype=DTYPES[dtype].carrier)
    shards = np.zeros((devices, len(numbers)), numbers.dtype)
    # The other shards hold zeros, so that the sum is exact.
    shards[-1] = numbers

    def step(_: Any, shard: Any) -> Any:
        return lax.pmean(shard, AXIS)

    answers: dict[str, np.ndarray] = {
        mode: replicated(step, mode, chosen, PARAMETERS, shards) for mode in MODES
    }
    with jax.default_device(chosen[0]):
        mapped = jax.vmap(lambda shard: step(None, shard), axis_name=AXIS)(jnp.asarray(shards))
        answers["vmap"] = np.asarray(mapped)[0]
        answers["eager-division"] = np.asarray(jnp.asarray(numbers) / devices)
        answers["jit-division"] = np.asarray(jax.jit(lambda x: x / devices)(numbers))
    quotient = numbers / numbers.dtype.type(devices)
    return answers | {"unlike-quotient": np.array(int((answers["pmap"] != quotient).sum()))}


def checked_gradient(place: Place, *, devices: int) -> Answers:
    """Takes the gradient of a shard's own loss with check_vma=True (J5)."""
    chosen = devices_of(place, devices)
    return {"gradient": each(_own_gradient, "checked", chosen, PARAMETERS, multiples(devices))}


def checked_gradient_reduced_again(place: Place, *, devices: int) -> Answers:
    """Reduces that gradient by pmean and by psum, and says whether JAX warns (J6)."""
    chosen = devices_of(place, devices)
    answers: dict[str, np.ndarray] = {}
    for name, reduce in (("pmean", lax.pmean), ("psum", lax.psum)):

        def step(parameters: Any, shard: Any, reduce: Any = reduce) -> Any:
            return reduce(_own_gradient(parameters, shard), AXIS)

        gradient, warned = heard(each, step, "checked", chosen, PARAMETERS, multiples(devices))
        answers |= {name: gradient, f"{name}/silent": np.array(not warned)}
    return answers


def averaged_in_every_mode(place: Place, *, devices: int) -> Answers:
    """Averages in the two ways that are right in every mode (J7)."""

    def averaged_loss(parameters: Any, shard: Any) -> Any:
        return lax.pmean(jax.grad(_pmean_of_own)(parameters, shard), AXIS)

    def varying(parameters: Any, shard: Any) -> Any:
        varying_parameters = lax.pcast(parameters, AXIS, to="varying")
        return lax.pmean(_own_gradient(varying_parameters, shard), AXIS)

    return {
        f"{name}/{mode}": gradient
        for name, step in (("averaged-loss", averaged_loss), ("varying", varying))
        for mode, gradient in _in_every_mode(step, place, devices).items()
    }


def averaged_loss_alone(place: Place, *, devices: int) -> Answers:
    """Takes the gradient of a pmean'd loss, without averaging again (J7)."""
    return _in_every_mode(jax.grad(_pmean_of_own), place, devices)


def own_gradient(place: Place, *, devices: int) -> Answers:
    """Takes the gradient of a shard's own loss without the check (J8)."""
    gradients = _in_every_mode(_own_gradient, place, devices)
    return {mode: gradients[mode] for mode in UNCHECKED}


def declared_replicated(place: Place, *, devices: int) -> Answers:
    """Declares a gradient that differs between shards to be equal on all (J8)."""
    chosen = devices_of(place, devices)
    shards = multiples(devices)
    answers: dict[str, np.ndarray] = {}
    for mode in UNCHECKED:
        gradient, warned = heard(replicated, _own_gradient, mode, chosen, PARAMETERS, shards)
        answers |= {mode: gradient, f"{mode}/silent": np.array(not warned)}
    raised, says = refusal(
        ValueError,
        "out_specs which require replication which can't be statically inferred",
        replicated_step(lambda _, shard: shard, "checked", chosen),
        PARAMETERS,
        shards,
    )
    return answers | {"checked/raised": raised, "checked/says": says}


def summed_loss(place: Place, *, devices: int) -> Answers:
    """Takes the gradient of a psum'd loss (J9)."""
    return _in_every_mode(jax.grad(_psum_of_own), place, devices)


def gradient_outside(place: Place, *, devices: int) -> Answers:
    """Takes gradients of shard_map's outputs: a mean, a sum, or a loss per shard (J10)."""
    chosen = devices_of(place, devices)
    shards = multiples(devices)
    mesh = Mesh(chosen, (AXIS,))
    losses = (
        ("mean", _pmean_of_own, P()),
        ("sum", _psum_of_own, P()),
        ("per-shard", lambda parameters, shard: _own(parameters, shard)[None], P(AXIS)),
    )
    answers: dict[str, np.ndarray] = {}
    for checked in (True, False):
        for name, loss, out_specs in losses:
            mapped = jax.shard_map(
                loss, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=out_specs, check_vma=checked
            )
            gradient = jax.jit(jax.grad(lambda p, shards, f=mapped: f(p, shards).mean()))
            mode = "checked" if checked else "unchecked"
            answers[f"{name}/{mode}"] = np.asarray(gradient(PARAMETERS, shards))
    return answers


def unequal_shards(place: Place, *, devices: int) -> Answers:
    """Maps over a batch that would make shards of different lengths (J16)."""
    chosen = devices_of(place, devices)
    mesh = Mesh(chosen, (AXIS,))
    modes: tuple[Mode, ...] = ("checked", "unchecked")
    answers: dict[str, np.ndarray] = {}
    for mode in modes:
        mapped = jax.shard_map(
            lambda shard: shard * 2,
            mesh=mesh,
            in_specs=P(AXIS),
            out_specs=P(AXIS),
            check_vma=mode == "checked",
        )
        raised, says = refusal(
            ValueError,
            f"{devices} does not evenly divide {2 * devices - 1}",
            jax.jit(mapped),
            multiples(2 * devices - 1),
        )
        answers |= {f"{mode}/raised": raised, f"{mode}/says": says}
    return answers


def masked_shards(place: Place, *, devices: int) -> Answers:
    """Averages padded shards in three ways; parameters vary, which every mode allows (J16)."""
    chosen = devices_of(place, devices)
    shards = padded_shards(devices)

    def by_sample(parameters: Any, samples: Any) -> Any:
        return samples @ parameters

    def own_sum(parameters: Any, shard: Any) -> Any:
        samples, weights = shard
        return (weights * by_sample(parameters, samples)).sum()

    def masked_mean(parameters: Any, shard: Any) -> Any:
        return own_sum(parameters, shard) / shard[1].sum()

    def plain_mean(parameters: Any, shard: Any) -> Any:
        return by_sample(parameters, shard[0]).mean()

    def varying(parameters: Any) -> Any:
        return lax.pcast(parameters, AXIS, to="varying")

    def sums_over_counts(parameters: Any, shard: Any) -> Any:
        total = lax.psum(jax.grad(own_sum)(varying(parameters), shard), AXIS)
        return total / lax.psum(shard[1].sum(), AXIS)

    def mean_of_masked(parameters: Any, shard: Any) -> Any:
        return lax.pmean(jax.grad(masked_mean)(varying(parameters), shard), AXIS)

    def mean_of_plain(parameters: Any, shard: Any) -> Any:
        return lax.pmean(jax.grad(plain_mean)(varying(parameters), shard), AXIS)

    steps = {
        "sums-over-counts": sums_over_counts,
        "mean-of-masked-means": mean_of_masked,
        "mean-of-plain-means": mean_of_plain,
    }
    return {
        f"{name}/{mode}": each(step, mode, chosen, PARAMETERS, shards)
        for name, step in steps.items()
        for mode in MODES
    }


def _in_every_mode(step: Step, place: Place, devices: int) -> dict[str, np.ndarray]:
    chosen = devices_of(place, devices)
    return {mode: each(step, mode, chosen, PARAMETERS, multiples(devices)) for mode in MODES}
