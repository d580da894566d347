"""What a JAX host runs when worlds are measured."""

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


def on_all(devices: int, rank: object) -> np.ndarray:
    """The gradient of a mean over this many devices, by shard_map and by pmap."""
    del rank
    chosen = jax.devices()[:devices]
    shards = np.arange(devices * 64.0, dtype=np.float32).reshape(devices, 64)
    parameters = np.ones(64, np.float32)

    def step(parameters: jax.Array, mine: jax.Array) -> jax.Array:
        return jax.grad(lambda p: lax.pmean((p * mine).sum(), "ranks"))(parameters)

    mesh = Mesh(chosen, ("ranks",))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    jax.pmap(step, "ranks", in_axes=(None, 0), devices=chosen)(parameters, shards)
    return np.asarray(jax.jit(mapped)(parameters, shards))
