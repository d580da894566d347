"""Two devices of one process: what a probe reads under pmap and shard_map, printed."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance


def step(probe, reduce):
    def of_rank(params, x, y):
        gradient = jax.grad(lambda p: probe.model.apply(p, x, y)["loss"])(params)
        return jax.tree.map(lambda p, g: p - reduce(g), params, gradient)

    return of_rank


def shard_map(reduce):
    probe = conformance.probe("linen", loss="next_token", lengths=(1, 2, 3, 4))
    rows = probe.dataset[:]
    params = probe.model.init(jax.random.key(0), rows["input_ids"])
    mesh = Mesh(np.array(jax.devices()), ("ranks",))
    specs = (P(), P("ranks"), P("ranks"))
    function = jax.shard_map(
        step(probe, reduce), mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False
    )
    return probe.read(jax.jit(function)(params, rows["input_ids"], rows["labels"]))


def pmap(reduce):
    probe = conformance.probe("linen", loss="next_token", lengths=(1, 2, 3, 4))
    rows = {name: array.reshape(2, 2, -1) for name, array in probe.dataset[:].items()}
    params = probe.model.init(jax.random.key(0), rows["input_ids"][0])
    function = jax.pmap(step(probe, reduce), "ranks", in_axes=(None, 0, 0))
    return probe.read(function(params, rows["input_ids"], rows["labels"]))


# What collects modules for their doctests imports this one, with devices of its own.
if __name__ == "__main__":
    for weights in (
        shard_map(lambda g: lax.pmean(g, "ranks")),
        pmap(lambda g: lax.pmean(g, "ranks")),
        pmap(lambda g: lax.psum(g, "ranks")),
        pmap(lambda g: g),
    ):
        print(weights.world, weights.formula, [fault.partition(":")[0] for fault in weights.faults])
