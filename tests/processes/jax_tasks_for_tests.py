"""What the tests of the JAX processes run in them."""

import ctypes
import os
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


def devices(payload, rank):
    return (
        rank.index,
        rank.size,
        rank.group,
        jax.process_index(),
        jax.local_device_count(),
        jax.device_count(),
    )


def total(payload, rank):
    """The sum over every device of every process of its own number."""
    count = jax.device_count()
    mesh = jax.make_mesh((count,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("d"))
    own = jnp.arange(count, dtype=jnp.float32)[rank.index * jax.local_device_count() :]
    own = own[: jax.local_device_count()]
    whole = jax.make_array_from_process_local_data(sharding, own, (count,))
    add = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    return float(add(whole))


def raise_on_one(payload, rank):
    if rank.index == 1:
        raise ValueError("bad shard")
    return total(None, rank)


def exit_on_one(payload, rank):
    if rank.index == 1:
        os._exit(payload)
    return total(None, rank)


def kill_one(payload, rank):
    if rank.index == 0:
        os.kill(os.getpid(), payload)
    return total(None, rank)


def segfault_on_one(payload, rank):
    if rank.index == 1:
        ctypes.string_at(0)
    return total(None, rank)


def skip(payload, rank):
    return "done" if rank.index == 0 else total(None, rank)


def loop_on_one(payload, rank):
    while rank.index == 1:
        pass
    return total(None, rank)


def shutdown(payload, rank):
    jax.distributed.shutdown()
    return "shut down"


def threads_of_the_fork_server(payload, rank):
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))
