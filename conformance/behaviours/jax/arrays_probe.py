"""Probes JAX's arrays: shardings, keys, donated arrays and 64 bits."""

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
    """Returns three ways to shard a batch, each with the gradient of the batch's mean."""
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
    """Returns the gradient of a batch's mean, for each way to shard the batch (J11)."""
    ways = _ways_to_shard(place, devices)
    return {name: np.asarray(way(multiples(count))) for name, way in ways.items()}


def indivisible_batch(place: Place, *, devices: int, count: int) -> Answers:
    """Shards a batch that the devices do not divide, also by a constraint outside jit (J11)."""
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
    """Counts the different noises that a key gives on the shards, and says whose they are (J12)."""
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
    """Passes an array on these devices to jit, donated or not (J13)."""
    split = NamedSharding(Mesh(devices_of(place, devices), (AXIS,)), P(AXIS))
    donated_array, other_array = (jax.device_put(multiples(devices), split) for _ in range(2))
    output = jax.jit(lambda x: x + 1, donate_argnums=0)(donated_array)
    jax.jit(lambda x: x + 1)(other_array)
    computing, computing_says = refusal(
        RuntimeError, "Array has been deleted", lambda: donated_array + 1
    )
    reading, reading_says = refusal(
        RuntimeError, "Array has been deleted", np.asarray, donated_array
    )
    return {
        "output": np.asarray(output),
        "donated/deleted": np.array(donated_array.is_deleted()),
        "kept/deleted": np.array(other_array.is_deleted()),
        "kept": np.asarray(other_array),
        "computing/raised": computing,
        "computing/says": computing_says,
        "reading/raised": reading,
        "reading/says": reading_says,
    }


def donated_in_vain(place: Place) -> Answers:
    """Donates an array to a jit whose output is smaller (J13)."""
    array = jax.device_put(multiples(4), devices_of(place, 1)[0])
    total = jax.jit(lambda x: x.sum(0), donate_argnums=0)
    output, warned = heard(lambda: np.asarray(total(array)))
    return {
        "output": output,
        "donated/deleted": np.array(array.is_deleted()),
        "donated": np.asarray(array),
        "warned": categories(warned),
        "says": np.array(["donated buffers were not usable" in str(w.message) for w in warned]),
    }


_WIDE = {
    "f64": np.array([1 + 2**-40, 2**31 + 1, -3], dtype=np.float64),
    "i64": np.array([2**33, 2**33 + 5, -7], dtype=np.int64),
}


def without_x64(place: Place, *, dtype: str) -> Answers:
    """Converts 64 bits with x64 off, which is the default, and on (J14)."""
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
                says = [_TRUNCATED in str(warning.message) for warning in warned]
                answers |= {
                    head: np.asarray(array),
                    f"{head}/warned": categories(warned),
                    f"{head}/says": np.array(says, dtype=bool),
                }
    return answers


def without_x64_python_int(place: Place) -> Answers:
    """Converts a Python int that is too wide for 32 bits, with x64 off and on (J14)."""
    device = devices_of(place, 1)[0]
    with jax.enable_x64(False), jax.default_device(device):
        raised, says = refusal(OverflowError, "out of bounds for int32", jnp.asarray, [2**33])
    with jax.enable_x64(True), jax.default_device(device):
        wide = np.asarray(jnp.asarray([2**33]))
    return {"raised": raised, "says": says, "x64": wide}
