"""A model of DistributedDataParallel's constructor, and of what it refuses."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp.parts_model import Rows, exactly, mean, refused
from conformance.core.dtypes import text


def initial_values(*, starts: Sequence[float], init_sync: bool = True) -> dict[str, np.ndarray]:
    """Copies rank 0's parameter and buffer once; later changes stay apart."""
    own = np.array(starts)[:, None]
    built = np.broadcast_to(own[0], own.shape) if init_sync else own
    return {
        "parameter/built": exactly(built),
        "buffer/built": exactly(100 * built),
        "parameter/changed": exactly(built + np.arange(len(starts))[:, None]),
    }


def replicas(*, starts: Sequence[float], gradients: Rows, steps: int) -> dict[str, np.ndarray]:
    """Keeps equal bits on all ranks, which add the same update to the same bits."""
    del gradients
    return {
        "apart_before": np.array(len(set(starts)) > 1),
        "agree": np.ones(1 + steps, bool),
    }


def without_gradient(*, module: str) -> dict[str, np.ndarray]:
    """Refuses a module without any trainable parameter."""
    trained = {"frozen": 0, "channel-shuffle": 0, "trained": 2}[module]
    return refused("nothing" if trained else "RuntimeError")


def devices(
    *, device_ids: Sequence[int] | None = None, output_device: int | None = None
) -> dict[str, np.ndarray]:
    """Refuses a device for a module on the CPU, except a false value such as 0."""
    outcome = refused("ValueError" if device_ids or output_device else "nothing")
    return {**outcome, "warnings": np.array(0)}


def placing(*, inputs: Rows) -> dict[str, np.ndarray]:
    """Sums the inputs, since all weights are 1; the gradients are the inputs."""
    own = exactly(np.array(inputs))
    return {
        **refused("ValueError"),
        "stays": np.array(True),
        "device": text("cpu"),
        "outputs": exactly(own.sum(1)),
        "gradients": own,
    }


def current_devices(*, world_size: int) -> dict[str, np.ndarray]:
    """Returns device 0 for each process."""
    return {"devices": np.zeros(world_size, np.int64)}


def gpu_module() -> dict[str, np.ndarray]:
    """Returns device 0, to which DDP brings the input, and where the output is."""
    return {
        "device_ids": np.array([0]),
        "output_device": np.array(0),
        "output_lies": text("cuda:0"),
    }


def container(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Holds its module, and averages over its group."""
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
    """Averages."""
    return {"gradient": mean(gradients)}


def before_init() -> dict[str, np.ndarray]:
    """Refuses."""
    return refused("ValueError")


def nccl_refused() -> dict[str, np.ndarray]:
    """Refuses."""
    return refused("RuntimeError")


def processes(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Has a process for each rank, which gloo joins."""
    return {
        "processes": np.array(len(gradients)),
        "backend": text("gloo"),
        "gradient": mean(gradients),
    }
