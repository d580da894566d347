"""DeepSpeed's engine, ZeRO stages 0 to 3, on the CPU, with its own accumulation.

As it comes it clips the gradient's norm at 1, which is the default of `gradient_clipping`; 0
turns that off. All four stages then take the mean of means. A last window that is not whole is
not stepped; its gradients count in the first window of the next epoch.

https://www.deepspeed.ai/docs/config-json/
"""

import deepspeed
import torch
from torch.utils.data import DataLoader, DistributedSampler

import conformance

# It would compile an operator for memory that ranks share, which takes minutes; gloo does as well.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def train(model, dataset, batch_size, accumulate, stage, **config):
    config = {
        "train_micro_batch_size_per_gpu": batch_size,
        "gradient_accumulation_steps": accumulate,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        **config,
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), config=config
    )
    for batch in DataLoader(dataset, batch_size, sampler=DistributedSampler(dataset)):
        engine.backward(engine(batch["input_ids"], batch["labels"])["loss"])
        engine.step()


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def deepspeed_as_it_comes(model, dataset, batch_size, accumulate):
    train(model, dataset, batch_size, accumulate, 0)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def deepspeed_zero_0(model, dataset, batch_size, accumulate):
    train(model, dataset, batch_size, accumulate, 0, gradient_clipping=0.0)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def deepspeed_zero_1(model, dataset, batch_size, accumulate):
    train(model, dataset, batch_size, accumulate, 1, gradient_clipping=0.0)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def deepspeed_zero_2(model, dataset, batch_size, accumulate):
    train(model, dataset, batch_size, accumulate, 2, gradient_clipping=0.0)


@conformance.implementation("gradient_mean", framework="torch", runs="trainer", promise="1/(W*K*n)")
def deepspeed_zero_3(model, dataset, batch_size, accumulate):
    train(model, dataset, batch_size, accumulate, 3, gradient_clipping=0.0)
