"""Gradient averages as people get them wrong: an adapter on which the suite shows what it says.

conformance run --adapter examples/wrong_gradient.py 'gradient_mean/wrong_*'
"""

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def wrong_sum(model, loss, batches, group):
    # The all-reduce adds up; nobody divides by the world size.
    import torch.distributed as dist

    _start_alike(model, group)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def wrong_never_synchronised(model, loss, batches, group):
    # Past the DDP wrapper: every rank keeps its own gradient.
    from torch.nn.parallel import DistributedDataParallel

    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    for x, y in batches:
        loss(ddp.module(x), y).backward()


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def wrong_mean_of_means(model, loss, batches, group):
    # Right where shards are equal: DDP averages ranks, not samples.
    import torch.distributed as dist

    _start_alike(model, group)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def wrong_pmean_of_a_sum(loss, params, batches, devices):
    # With check_vma=True the gradient is summed over shards already: a pmean leaves the sum.
    from functools import partial

    import jax
    from jax import lax
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    @jax.jit
    @partial(
        jax.shard_map, mesh=Mesh(devices, ("ranks",)), in_specs=(P(), P("ranks")), out_specs=P()
    )
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)
        grads = jax.grad(lambda params: sum(loss(params, *batch) for batch in mine))(params)
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def wrong_shard_0(loss, params, batches, devices):
    # Nothing checks that out_specs=P() is true: shard 0's gradient comes back.
    from functools import partial

    import jax
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=Mesh(devices, ("ranks",)),
        in_specs=(P(), P("ranks")),
        out_specs=P(),
        check_vma=False,
    )
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)
        return jax.grad(lambda params: sum(loss(params, *batch) for batch in mine))(params)

    return step(params, batches)


def _start_alike(model, group):
    import torch.distributed as dist

    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
