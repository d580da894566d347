"""Probes DistributedDataParallel's communication hooks."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from conformance.behaviours.ddp.parts_probe import (
    Line,
    Rows,
    array,
    everyone,
    parallel,
    refusal,
    tensor,
)
from conformance.behaviours.probe import Answers, Place
from conformance.core.outcomes import NotExercised

_ONCE = "can only be called once"


def allreduce(place: Place, *, gradients: Rows) -> Answers:
    """Averages with allreduce_hook, (F,) in f64, and reads its docstring."""
    x = tensor(place, [gradients[place.rank]], torch.float64)
    module = Line(x.shape[-1], dtype=torch.float64)
    ddp = parallel(place, module)
    ddp.register_comm_hook(place.group, default_hooks.allreduce_hook)
    ddp(x).sum().backward()
    words = " ".join(str(default_hooks.allreduce_hook.__doc__).split())
    return {
        "gradient": array(module.weight.grad),
        "says_the_same": np.array("this won't change behavior of DDP" in words),
    }


def summing(place: Place, *, gradients: Rows) -> Answers:
    """Registers a hook that only sums; returns what it gets on each rank, and the gradients."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    shown: list[torch.Tensor] = []

    def hook(group, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        shown.append(bucket.buffer().clone())
        work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    ddp.register_comm_hook(place.group, hook)
    ddp(tensor(place, [own])).sum().backward()
    return {
        "shown": everyone(place, torch.cat(shown)),
        "gradients": everyone(place, module.weight.grad),
    }


def second(place: Place, *, first_builtin: bool, second_builtin: bool) -> Answers:
    """Registers a second hook."""
    ddp = parallel(place, Line())

    def register(*, builtin: bool) -> None:
        if builtin:
            ddp._register_builtin_comm_hook(dist.BuiltinCommHookType.ALLREDUCE)
        else:
            ddp.register_comm_hook(place.group, default_hooks.allreduce_hook)

    register(builtin=first_builtin)
    return refusal(lambda: register(builtin=second_builtin), RuntimeError, _ONCE)


def fp16(place: Place, *, gradients: Rows) -> Answers:
    """Returns the gradients of fp16_compress_hook for f32 gradients, on each rank."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    ddp.register_comm_hook(place.group, default_hooks.fp16_compress_hook)
    ddp(tensor(place, [own])).sum().backward()
    return {"gradients": everyone(place, module.weight.grad)}


def _takes_bf16() -> bool:
    """Says whether DDP of this build takes a hook of that name."""
    gpu = torch.version.cuda is not None or torch.version.hip is not None
    nccl = gpu and dist.is_nccl_available() and torch.cuda.nccl.version() >= (2, 10)
    return nccl or (dist.is_xccl_available() and torch.xpu.is_available())


def bf16_refused(place: Place, *, wrapped: bool) -> Answers:
    """Registers bf16_compress_hook, or a hook in bf16_compress_wrapper.

    Raises:
        NotExercised: if this build takes the hook.
    """
    if _takes_bf16():
        raise NotExercised("this torch is built with NCCL 2.10 or XCCL, and takes the hook")
    hook: Any = default_hooks.bf16_compress_hook
    if wrapped:
        hook = default_hooks.bf16_compress_wrapper(default_hooks.allreduce_hook)
    ddp = parallel(place, Line())
    return refusal(
        lambda: ddp.register_comm_hook(place.group, hook),
        TypeError,
        "BF16 all reduce communication hook required",
    )


def bf16_renamed(place: Place, *, gradients: Rows) -> Answers:
    """Returns the gradients of bf16_compress_hook under another name, on each rank."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)

    def another_name(group, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return default_hooks.bf16_compress_hook(group, bucket)

    ddp.register_comm_hook(place.group, another_name)
    ddp(tensor(place, [own])).sum().backward()
    return {"gradients": everyone(place, module.weight.grad)}
