"""What DistributedDataParallel does, and what it refuses, when it is constructed."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp.parts_model import Rows, exactly, mean, refused
from conformance.core.dtypes import text


def initial_values(*, starts: Sequence[float], init_sync: bool = True) -> dict[str, np.ndarray]:
    """Rank 0's parameter and buffer, once; then each rank's parameter goes its own way."""
    own = np.array(starts)[:, None]
    built = np.broadcast_to(own[0], own.shape) if init_sync else own
    return {
        "parameter/built": exactly(built),
        "buffer/built": exactly(100 * built),
        "parameter/changed": exactly(built + np.arange(len(starts))[:, None]),
    }


def replicas(*, starts: Sequence[float], gradients: Rows, steps: int) -> dict[str, np.ndarray]:
    """Ranks that hold the same bits, and add the same update, hold the same bits."""
    del gradients
    return {
        "apart_before": np.array(len(set(starts)) > 1),
        "agree": np.ones(1 + steps, bool),
    }


def without_gradient(*, module: str) -> dict[str, np.ndarray]:
    """Refused, unless something is to be trained."""
    trained = {"frozen": 0, "channel-shuffle": 0, "trained": 2}[module]
    return refused("nothing" if trained else "RuntimeError")


def devices(
    *, device_ids: Sequence[int] | None = None, output_device: int | None = None
) -> dict[str, np.ndarray]:
    """A module on the CPU takes no device; what is false, like 0 alone, passes without a word."""
    told = refused("ValueError" if device_ids or output_device else "nothing")
    return {**told, "warnings": np.array(0)}


def placing(*, inputs: Rows) -> dict[str, np.ndarray]:
    """The weights are 1: an output is the sum of the inputs, its gradient the inputs."""
    own = exactly(np.array(inputs))
    return {
        **refused("ValueError"),
        "stays": np.array(True),
        "device": text("cpu"),
        "outputs": exactly(own.sum(1)),
        "gradients": own,
    }


def current_devices(*, world_size: int) -> dict[str, np.ndarray]:
    """Device 0 in each process."""
    return {"devices": np.zeros(world_size, np.int64)}


def gpu_module() -> dict[str, np.ndarray]:
    """The one device there is, for the input, which DDP brings there, and for the output."""
    return {
        "device_ids": np.array([0]),
        "output_device": np.array(0),
        "output_lies": text("cuda:0"),
    }


def container(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The module that it was given, averaged over the group that it was given."""
    return {
        "is_a_module": np.array(True),
        "same_module": np.array(True),
        "same_parameters": np.array(True),
        "same_group": np.array(True),
        "first_argument": text("module"),
        "required_arguments": np.array(1),
        "gradient": mean(gradients),
    }


def by_keyword(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The mean."""
    return {"gradient": mean(gradients)}


def before_init() -> dict[str, np.ndarray]:
    """Refused."""
    return refused("ValueError")


def nccl_refused() -> dict[str, np.ndarray]:
    """Refused."""
    return refused("RuntimeError")


def processes(*, gradients: Rows) -> dict[str, np.ndarray]:
    """A process for each rank; gloo joins them."""
    return {
        "processes": np.array(len(gradients)),
        "backend": text("gloo"),
        "gradient": mean(gradients),
    }
