"""Lightning Fabric's DDP strategy, and its way to leave out the all-reduce while accumulating.

pip install lightning-fabric==2.6.6
conformance run --adapter examples/third_party/fabric_ddp.py '*/fabric_ddp'
"""

import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy

import conformance


@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def fabric_ddp(model, loss, batches, group):
    strategy = DDPStrategy(
        parallel_devices=[torch.device("cpu")] * group.size(),
        cluster_environment=LightningEnvironment(),
        process_group=group,
        find_unused_parameters=True,
    )
    wrapped = strategy.setup_module(model)
    *others, (x, y) = batches
    for before, wanted in others:
        with strategy._backward_sync_control.no_backward_sync(wrapped, enabled=True):
            strategy.backward(loss(wrapped(before), wanted), wrapped)
    strategy.backward(loss(wrapped(x), y), wrapped)
