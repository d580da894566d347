"""A model of the article's sentences about DistributedDataParallel, put right."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp.parts_model import Rows, exactly, mean, on_every_rank


def documented(*, of: str, words: Sequence[str]) -> dict[str, np.ndarray]:
    """Finds all of the words in the docstring."""
    del of
    return {"says": np.ones(len(words), bool)}


def homes() -> dict[str, np.ndarray]:
    """Says where ChannelShuffle, DataParallel and DistributedDataParallel live, in this order."""
    return {
        "are_modules": np.array([True, True, True]),
        "in_nn": np.array([True, True, False]),
        "in_nn_parallel": np.array([False, True, True]),
        "under_torch_nn": np.array([True, True, True]),
    }


def inputs_seen(*, batches: Sequence[Rows], options: Sequence[str]) -> dict[str, np.ndarray]:
    """Lets each rank see its whole batch."""
    array = np.array(batches, np.float64)
    averaged = mean(array.mean(1))
    answers = {}
    for option in options:
        answers[f"{option}/seen"] = exactly(array)
        answers[f"{option}/gradients"] = averaged
    return answers


def sampled(*, samples: Sequence[float], world_size: int) -> dict[str, np.ndarray]:
    """Gives rank r every W-th sample from r; for equal parts the mean of means is the mean."""
    parts = exactly(np.array(samples).reshape(-1, world_size).T)
    return {"parts": parts, "gradients": exactly(np.full((world_size, 1), np.mean(samples)))}


def loop(*, dataset: Rows, mended: bool, world_size: int) -> dict[str, np.ndarray]:
    """Averages each batch, and adds gradients up from step to step unless they are cleared."""
    means = np.array([np.mean(batch) for batch in dataset])
    gradients = means if mended else np.cumsum(means)
    seen = [[x for batch in dataset for x in batch[rank::world_size]] for rank in range(world_size)]
    all_samples = [x for batch in dataset for x in batch]
    return {
        "seen": exactly(np.array(seen if mended else [all_samples] * world_size)),
        "gradients": exactly(gradients),
        "weights": exactly(1 - np.cumsum(gradients) / 2),
    }


def beside_data_parallel(*, samples: Sequence[float], world_size: int) -> dict[str, np.ndarray]:
    """Averages over the samples, with both classes."""
    both = exactly(np.full((world_size, 1), np.mean(samples)))
    return {"distributed_data_parallel": both, "data_parallel": both}


def reduction(*, inputs: Sequence[float]) -> dict[str, np.ndarray]:
    """Takes the mean with DDP, and the sum with DataParallel, of gradients that are the inputs.

    Each rank adds its input to its buffer in a forward; before the second forward the buffer is
    its own, since the first was under no_sync(), and before the third it is rank 0's.
    """
    own = np.array(inputs)[:, None]
    averaged = mean(own)
    return {
        "own": exactly(own),
        "distributed_data_parallel": averaged,
        "data_parallel": exactly(on_every_rank(own.sum(0), len(own))),
        "parameters": exactly(1 - averaged.astype(np.float64) / 2),
        "buffers": exactly(2 * own),
        "buffers_found": exactly(on_every_rank(2 * own[0], len(own))),
    }


def spans(*, world_size: int) -> dict[str, np.ndarray]:
    """Runs as many replicas: in one process, or each in its own."""
    return {
        "replicas": np.array([world_size, world_size]),
        "processes": np.array([1, world_size]),
        "takes_a_group": np.array([False, True]),
    }


def shuffled_network(
    *, samples: Rows, first: Sequence[Rows], second: Sequence[Rows]
) -> dict[str, np.ndarray]:
    """Applies the chain rule: y = B·S·relu(A·x), where S takes channel (j, i) from (i, j)."""
    x = np.array(samples, np.float64)
    a, b = (np.array(weight, np.float64) for weight in (first, second))
    n, (groups, out, within) = len(x), a.shape
    split = x.reshape(n, groups, within)
    before = np.einsum("goi,ngi->ngo", a, split)
    hidden = np.maximum(before, 0)
    shuffled = hidden.transpose(0, 2, 1).reshape(n, b.shape[0], b.shape[2])
    y = np.einsum("goi,ngi->ngo", b, shuffled)
    to_b = np.einsum("ngo,ngi->goi", y, shuffled) / n
    back = np.einsum("goi,ngo->ngi", b, y).reshape(n, out, groups).transpose(0, 2, 1)
    to_a = np.einsum("ngo,ngi->goi", back * (before > 0), split) / n
    answers = {}
    for way in ("one_device", "data_parallel", "distributed_data_parallel"):
        # torch has the outputs of all groups on the same axis, and an axis for the kernel.
        answers[f"{way}/first"] = exactly(to_a.reshape(-1, a.shape[2], 1))
        answers[f"{way}/second"] = exactly(to_b.reshape(-1, b.shape[2], 1))
    return answers
