"""A model of training with `torch.nn.DataParallel`: sums over chunks, replica 0's share."""

import numpy as np

from conformance.behaviours.data_parallel.model import Answers, chunk_lengths, chunks, counting
from conformance.core.dtypes import text


def summed_gradients(*, batch: int, devices: int) -> Answers:
    """Sums the chunks' own gradients; w is 1, 2, 3."""
    parts = zip(chunks(counting(batch, 3), devices), chunks(counting(batch), devices), strict=True)
    own = [(part * count[:, None]).sum(0) for part, count in parts]
    gradient = np.sum(own, axis=0, dtype=np.float32)
    return {
        "replicas": np.array(len(own)),
        "gradient": gradient,
        "input_gradient": counting(batch)[:, None] * counting(3),
        "twice": 2 * gradient,
    }


def tied_weight(*, batch: int, devices: int) -> Answers:
    """Sums w·Σ b·x for each of two uses in each chunk, with w = 2."""
    uses = [2 * (part * part).sum() for part in chunks(counting(batch), devices) for _ in range(2)]
    return {
        "replicas": np.array(len(uses) // 2),
        "gradient": np.array([sum(uses)], dtype=np.float32),
        "still_tied": np.array(True),
    }


def attributes(*, batch: int, devices: int) -> Answers:
    """Counts two forwards, which the module keeps only where it is called itself."""
    replicas = len(chunk_lengths(batch, devices))
    return {
        "calls": np.array(2 * replicas),
        "counter": np.array(2 if devices == 1 else 0),
        "has_the_new_one": np.array(devices == 1),
    }


def buffers(*, batch: int, devices: int, in_place: bool) -> Answers:
    """Keeps what was added in place in chunk 0."""
    parts = chunks(counting(batch), devices)
    total = parts[0].sum() if in_place or devices == 1 else 0
    return {"replicas": np.array(len(parts)), "total": np.array(total, dtype=np.float32)}


def running_statistics(*, devices: int, momentum: float) -> Answers:
    """Moves the statistics from 0 and 1 to those of chunk 0, with the unbiased variance."""
    parts = chunks(2 * counting(2 * devices, 3), devices)
    mean, variance = parts[0].mean(0), parts[0].var(0, ddof=1)
    return {
        "replicas": np.array(len(parts)),
        "running_mean": np.asarray(momentum * mean, dtype=np.float32),
        "running_var": np.asarray(1 - momentum + momentum * variance, dtype=np.float32),
        "num_batches_tracked": np.array(1),
    }


def hooks(*, batch: int, devices: int) -> Answers:
    """Runs each kind of hook once for each chunk."""
    replicas = len(chunk_lengths(batch, devices))
    once = np.ones(replicas, dtype=np.int64)
    kinds = ("before", "after", "back_before", "back")
    return {**dict.fromkeys(kinds, once), "in_all": np.array([replicas] * len(kinds))}


def replica_weights(*, batch: int, devices: int) -> Answers:
    """Finds no parameter, leaf or penalty in a replica; w is 1, so a penalty would give 2·B."""
    replicas = len(chunk_lengths(batch, devices))
    alone = devices == 1
    gradient = counting(batch).sum() + (2 * batch if alone else 0)
    return {
        "parameters": np.full(replicas, int(alone)),
        "leaves": np.full(replicas, alone),
        "requires_grad": np.full(replicas, fill_value=True),
        "gradient": np.array([gradient], dtype=np.float32),
    }


def mean_loss(*, batch: int, devices: int, inside: bool) -> Answers:
    """Averages over samples, or over the chunks' means; w is 1, so that loss = gradient."""
    parts = chunks(2520 * counting(batch).astype(np.float64), devices)
    means = [part.mean() for part in parts] if inside else np.concatenate(parts)
    loss = np.array(np.mean(means), dtype=np.float32)
    return {"replicas": np.array(len(parts)), "loss": loss, "gradient": loss.reshape(1)}


def state_keys(*, devices: int, names: tuple[str, ...]) -> Answers:
    """Puts `module.` before every name."""
    del devices
    return {"keys": text("\n".join(sorted(f"module.{name}" for name in names)))}


def small_batch(*, batch: int, devices: int) -> Answers:
    """Sums over all samples one by one."""
    parts = chunks(counting(batch, 2), devices)
    return {
        "sizes": np.array(sorted(len(part) for part in parts)),
        "gradient": np.asarray(sum(part.sum(0) for part in parts), dtype=np.float32),
        "as_alone": np.array(True),
        "advised": np.array(True),
    }
