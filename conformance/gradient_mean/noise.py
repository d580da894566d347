"""The noise that a dropout put on samples, read off the gradient of their rows of an embedding.

Which elements are dropped is a random generator's to say, and no two frameworks have the same. So
what is asked is what every generator promises: what is kept counts twice, and no two samples have
the same noise. The oracle draws noise of its own, to answer with gradients like anybody's.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from conformance.core.questions import GradientQuestion
from conformance.core.random_bits import random_bits
from conformance.gradient_mean.models import NOISE

NOISY_PARAMETER = "words.weight"


def drawn(question: GradientQuestion) -> np.ndarray:
    """Which elements of the noisy parameter's gradient the oracle keeps: half of them."""
    channels, features = NOISE
    shape = (sum(map(sum, question.shards)) * channels, features)
    bits = np.frombuffer(random_bits(f"noise/{question.model}/{shape}", shape[0] * features), "u1")
    kept = bits.reshape(shape) & 1 == 0
    return kept if question.model == "dropout" else np.broadcast_to(kept[:, :1], shape)


def samples_of(question: GradientQuestion) -> Iterator[tuple[int, int]]:
    """Of every sample, in the order of its rows, the rank and its place among the rank's own.

    >>> list(samples_of(GradientQuestion("dropout", ((1, 2), (2, 1)))))
    [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]
    """
    seen = [0] * question.world_size
    for shards in question.shards:
        for rank, count in enumerate(shards):
            for _ in range(count):
                yield rank, seen[rank]
                seen[rank] += 1


def rows_of(question: GradientQuestion, gradient: np.ndarray) -> np.ndarray:
    """The gradient of the noisy parameter, a row for each sample."""
    return gradient.reshape(sum(map(sum, question.shards)), -1)


def read(question: GradientQuestion, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What can be asked of the noise, whatever it is.

    Returns:
        `noise/weights` (N, 2), the least and the largest that an element of a sample counts of
        those that count; and `noise/alike` (W, W), whether a sample of one rank and another of
        the other have the same elements dropped.

    >>> question = GradientQuestion("dropout", ((1, 1),), "output", observe="noise")
    >>> alike = np.tile([2.0, 0.0], (64, 1))
    >>> read(question, {"gradient/words.weight": alike})["noise/alike"].tolist()
    [[False, True], [True, False]]
    """
    rows = rows_of(question, gradients[f"gradient/{NOISY_PARAMETER}"])
    weights = np.zeros((len(rows), 2), rows.dtype)
    by_pattern: dict[bytes, list[int]] = {}
    alike = np.zeros((question.world_size, question.world_size), dtype=bool)
    for sample, (rank, _) in enumerate(samples_of(question)):
        counted = rows[sample][rows[sample] != 0]
        if not counted.size:
            continue
        weights[sample] = counted.min(), counted.max()
        others = by_pattern.setdefault((rows[sample] != 0).tobytes(), [])
        for other in others:
            alike[rank, other] = alike[other, rank] = True
        others.append(rank)
    return {"noise/weights": weights, "noise/alike": alike}
