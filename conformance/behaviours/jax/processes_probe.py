"""Probes JAX over several processes, which all see the same list of devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.behaviours.probe import Answers, Place
from conformance.core.outcomes import Unsupported

Rows = tuple[tuple[float, ...], ...]


def mean(
    place: Place,
    *,
    devices: int,
    weights: tuple[float, ...],
    inputs: Rows,
    targets: tuple[float, ...],
) -> Answers:
    """Averages the gradient of half the mean squared error of w·x over all processes' devices.

    Every process passes its own part of the batch; both ways leave the mean on every device.

    Raises:
        Unsupported: if a process has another number of devices, or the device is not the CPU:
            the processes would share a GPU.
    """
    if place.device != "cpu":
        raise Unsupported("JAX processes need a GPU each: they are joined on the CPU alone")
    if jax.local_device_count() != devices:
        raise Unsupported(
            f"{devices} devices of each process are asked for, {jax.local_device_count()} are here"
        )
    mesh = Mesh(jax.devices(), ("ranks",))
    split, whole = NamedSharding(mesh, P("ranks")), NamedSharding(mesh, P())
    share = len(targets) // place.world_size
    own = slice(place.rank * share, (place.rank + 1) * share)

    def placed(sharding: NamedSharding, values: object) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, np.asarray(values, np.float32))

    w, x, t = placed(whole, weights), placed(split, inputs[own]), placed(split, targets[own])

    def loss(w: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.mean((x @ w - t) ** 2) / 2

    def averaged(w: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        return jax.grad(lambda w: lax.pmean(loss(w, x, t), "ranks"))(w)

    specs = (P(), P("ranks"), P("ranks"))
    by_shard_map = jax.jit(jax.shard_map(averaged, mesh=mesh, in_specs=specs, out_specs=P()))
    by_sharding = jax.jit(jax.grad(loss), out_shardings=whole)
    return {
        "devices": np.array(jax.device_count()),
        "devices_of_a_process": np.array(jax.local_device_count()),
        "shard_map": _copies(by_shard_map(w, x, t)),
        "jit_sharding": _copies(by_sharding(w, x, t)),
    }


def _copies(array: jax.Array) -> np.ndarray:
    """Returns what each of this process's devices holds, stacked."""
    return np.stack([np.asarray(shard.data) for shard in array.addressable_shards])
