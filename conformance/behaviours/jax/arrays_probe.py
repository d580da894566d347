"""What JAX does to arrays: how they lie on devices, what keys make, what is deleted, how wide."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.behaviours.jax.cases import PARAMETERS, multiples
from conformance.behaviours.jax.modes import (
    AXIS,
    MODES,
    categories,
    devices_of,
    each,
    heard,
    refusal,
)
from conformance.behaviours.probe import Answers, Place

_TRUNCATED = "is not available, and will be truncated to dtype"


def _mean(parameters: Any, batch: Any) -> Any:
    return (batch @ parameters).mean()


def _ways_to_shard(place: Place, devices: int) -> dict[str, Callable[[Any], Any]]:
    """The gradient of the mean of a batch that is sharded in three ways."""
    mesh = Mesh(devices_of(place, devices), (AXIS,))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))

    def constrained(parameters: Any, batch: Any) -> Any:
        return _mean(parameters, lax.with_sharding_constraint(batch, split))

    gradient = jax.grad(_mean)
    return {
        "device_put": lambda batch: jax.jit(gradient)(PARAMETERS, jax.device_put(batch, split)),
        "in_shardings": lambda batch: jax.jit(gradient, in_shardings=(whole, split))(
            PARAMETERS, batch
        ),
        "constraint": lambda batch: jax.jit(jax.grad(constrained))(PARAMETERS, batch),
    }


def sharded_batch(place: Place, *, devices: int, count: int) -> Answers:
    """J11: the gradient of the mean over a batch, however it came to be sharded."""
    ways = _ways_to_shard(place, devices)
    return {name: np.asarray(way(multiples(count))) for name, way in ways.items()}


def indivisible_batch(place: Place, *, devices: int, count: int) -> Answers:
    """J11: the same of a batch that the devices do not divide, and a constraint outside jit."""
    ways = _ways_to_shard(place, devices)
    batch = multiples(count)
    answers = {"constraint": np.asarray(ways.pop("constraint")(batch))}
    split = NamedSharding(Mesh(devices_of(place, devices), (AXIS,)), P(AXIS))
    ways["constraint-outside-jit"] = lambda batch: lax.with_sharding_constraint(
        jnp.asarray(batch), split
    )
    for name, way in ways.items():
        raised, says = refusal(
            ValueError,
            f"array axis 0 is partitioned {devices} times, but the dimension size is {count}",
            way,
            batch,
        )
        answers |= {f"{name}/raised": raised, f"{name}/says": says}
    return answers


def same_key(place: Place, *, devices: int) -> Answers:
    """J12: how many different noises one key makes on the shards, and whose they are."""
    chosen = devices_of(place, devices)
    with jax.default_device(chosen[0]):
        key = np.asarray(jax.random.key_data(jax.random.key(7)))

    def noise(key: Any) -> Any:
        return jax.random.bits(key, (8,), "uint32")

    def plain(key: Any, _: Any) -> Any:
        return noise(jax.random.wrap_key_data(key))

    def folded(key: Any, _: Any) -> Any:
        return noise(jax.random.fold_in(jax.random.wrap_key_data(key), lax.axis_index(AXIS)))

    with jax.default_device(chosen[0]):
        whole = jax.random.wrap_key_data(jnp.asarray(key))
        alone = [np.asarray(noise(jax.random.fold_in(whole, r))) for r in range(devices)]
    answers: dict[str, np.ndarray] = {}
    for mode in MODES:
        same = each(plain, mode, chosen, key, multiples(devices))
        own = each(folded, mode, chosen, key, multiples(devices))
        answers |= {
            f"same/{mode}/different": np.array(len(np.unique(same, axis=0))),
            f"folded/{mode}/different": np.array(len(np.unique(own, axis=0))),
            f"folded/{mode}/as-outside": (own == np.stack(alone)).all(axis=1),
        }
    return answers


def donated(place: Place, *, devices: int) -> Answers:
    """J13: an array on these devices after a jit took it, as donated or not."""
    split = NamedSharding(Mesh(devices_of(place, devices), (AXIS,)), P(AXIS))
    given, kept = (jax.device_put(multiples(devices), split) for _ in range(2))
    output = jax.jit(lambda x: x + 1, donate_argnums=0)(given)
    jax.jit(lambda x: x + 1)(kept)
    computing, computing_says = refusal(RuntimeError, "Array has been deleted", lambda: given + 1)
    reading, reading_says = refusal(RuntimeError, "Array has been deleted", np.asarray, given)
    return {
        "output": np.asarray(output),
        "donated/deleted": np.array(given.is_deleted()),
        "kept/deleted": np.array(kept.is_deleted()),
        "kept": np.asarray(kept),
        "computing/raised": computing,
        "computing/says": computing_says,
        "reading/raised": reading,
        "reading/says": reading_says,
    }


def donated_in_vain(place: Place) -> Answers:
    """J13: an array that is donated to a jit whose output is smaller."""
    given = jax.device_put(multiples(4), devices_of(place, 1)[0])
    total = jax.jit(lambda x: x.sum(0), donate_argnums=0)
    output, warned = heard(lambda: np.asarray(total(given)))
    return {
        "output": output,
        "donated/deleted": np.array(given.is_deleted()),
        "donated": np.asarray(given),
        "warned": categories(warned),
        "says": np.array(["donated buffers were not usable" in str(w.message) for w in warned]),
    }


_WIDE = {
    "f64": np.array([1 + 2**-40, 2**31 + 1, -3], dtype=np.float64),
    "i64": np.array([2**33, 2**33 + 5, -7], dtype=np.int64),
}


def without_x64(place: Place, *, dtype: str) -> Answers:
    """J14: what becomes of 64 bits where x64 is off, as it is by default, and where it is on."""
    device = devices_of(place, 1)[0]
    wide = _WIDE[dtype]
    python_type = float if dtype == "f64" else int
    ways: dict[str, Callable[[], Any]] = {
        "asarray": lambda: jnp.asarray(wide),
        "device_put": lambda: jax.device_put(wide, device),
        "python-type": lambda: jnp.asarray(wide, dtype=python_type),
        "named": lambda: jnp.asarray(wide, dtype=wide.dtype),
    }
    answers: dict[str, np.ndarray] = {}
    for is_on in (False, True):
        with jax.enable_x64(is_on), jax.default_device(device):
            for name, way in ways.items():
                array, warned = heard(way)
                head = f"{name}/x64" if is_on else name
                says = [_TRUNCATED in str(one.message) for one in warned]
                answers |= {
                    head: np.asarray(array),
                    f"{head}/warned": categories(warned),
                    f"{head}/says": np.array(says, dtype=bool),
                }
    return answers


def without_x64_python_int(place: Place) -> Answers:
    """J14: a Python int too wide for 32 bits, with x64 off and on."""
    device = devices_of(place, 1)[0]
    with jax.enable_x64(False), jax.default_device(device):
        raised, says = refusal(OverflowError, "out of bounds for int32", jnp.asarray, [2**33])
    with jax.enable_x64(True), jax.default_device(device):
        wide = np.asarray(jnp.asarray([2**33]))
    return {"raised": raised, "says": says, "x64": wide}
