"""A model of `torch.nn.DataParallel` as the article describes it, where the article is right."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.data_parallel.model import Answers, chunk_lengths, chunks, counting
from conformance.core.dtypes import text


def container(*, batch: int, devices: int) -> Answers:
    """Holds its module under the name `module`, and the module's parameter."""
    return {
        "replicas": np.array(len(chunk_lengths(batch, devices))),
        "is_module": np.array(True),
        "holds": text("module"),
        "same_module": np.array(True),
        "same_parameters": np.array([True]),
    }


def threads(*, batch: int, devices: int) -> Answers:
    """Takes a thread for each replica; a single replica runs in the caller's thread."""
    replicas = len(chunk_lengths(batch, devices))
    return {
        "replicas": np.array(replicas),
        "threads": np.array(replicas),
        "callers_threads": np.array(int(replicas == 1)),
        "callers_processes": np.array(replicas),
        "elements": np.full(replicas, 4 * 3),
        "memories": np.array(replicas),
        "together": np.array(True),
    }


def rows_seen(*, batch: int, devices: int) -> Answers:
    """Puts sample b into its chunk alone."""
    parts = chunks(np.eye(batch, dtype=np.int64), devices)
    return {"seen": np.stack([part.sum(0) for part in parts])}


def constructed(
    *,
    here: int,
    batch: int,
    device_ids: Sequence[int | str] | None = None,
    output_device: int | None = None,
) -> Answers:
    """Takes the devices of the call in their order, or all; the first device is the default."""
    requested = range(here) if device_ids is None else device_ids
    chosen = np.array([int(str(device).rpartition(":")[2]) for device in requested])
    target = chosen[0] if output_device is None else np.int64(output_device)
    return {
        "parameters": text("module device_ids output_device dim"),
        "same_module": np.array(True),
        "device_ids": chosen,
        "output_device": np.array(target),
        "dim": np.array(0),
        "module_wanted_on": np.array(chosen[0]),
        "output": counting(batch),
        "used": chosen[: len(chunk_lengths(batch, len(chosen)))],
        "gathered_on": np.array([target]),
    }


def example(*, batch: int, devices: int, given_on: str) -> Answers:
    """Runs each chunk through the network, and concatenates the outputs."""
    del given_on

    def filled(*shape: int) -> np.ndarray:
        steps = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        return steps * 5 % 7 - 3

    def network(x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x @ filled(4, 3).T + filled(4), 0)
        return hidden @ filled(2, 4).T + filled(2)

    parts = chunks(counting(batch, 3) % 5 - 2, devices)
    return {
        "replicas": np.array(len(parts)),
        "output": np.concatenate([network(part) for part in parts]),
        "as_alone": np.array(True),
        "on_first": np.array(True),
    }


def same_gradient(*, batch: int, devices: int) -> Answers:
    """Averages over samples; the mean of the chunks' means is equal for equal chunks."""
    samples = 2520 * counting(batch).astype(np.float64)
    parts = chunks(samples, devices)
    of_ranks = np.mean([part.mean() for part in parts])
    return {
        "replicas": np.array(len(parts)),
        "gradient": np.array([samples.mean()], dtype=np.float32),
        "as_alone": np.array(True),
        "as_ranks": np.array(of_ranks == samples.mean()),
        "advised": np.array(True),
    }


def no_deprecation(*, batch: int, devices: int) -> Answers:
    """Computes a gradient without any warning."""
    return {
        "replicas": np.array(len(chunk_lengths(batch, devices))),
        "devices": np.array(devices),
        "gradient": np.array([counting(batch).sum()], dtype=np.float32),
        "deprecations": np.array(0),
        "marked": np.array(False),
    }


def both_classes(*, batch: int, devices: int) -> Answers:
    """Has threads in the caller's process; both classes are modules, and take a module first."""
    observed = threads(batch=batch, devices=devices)
    return {
        **{key: observed[key] for key in ("replicas", "threads", "callers_processes", "together")},
        "are_modules": np.array([True, True]),
        "take": text("module module"),
    }


def not_a_module(*, batch: int, devices: int) -> Answers:
    """Raises an error in forward, which looks for the parameters."""
    del batch, devices
    return {"raised": text("AttributeError"), "says": np.array(True)}
