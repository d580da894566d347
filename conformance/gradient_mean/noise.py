"""The noise that a dropout put on samples, as the gradient of an embedding's rows shows it.

A random generator decides which elements are dropped, and no two frameworks have the same. So the
cases ask what every generator promises: an element that is kept counts twice, and no two samples
have the same noise. The oracle draws noise of its own, so that its answer has the usual form.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from conformance.core.questions import GradientQuestion
from conformance.core.random_bits import random_bits
from conformance.gradient_mean.models import NOISE

NOISY_PARAMETER = "words.weight"


def drawn(question: GradientQuestion) -> np.ndarray:
    """Draws which elements of the noisy parameter's gradient the oracle keeps: half of them."""
    channels, features = NOISE
    shape = (sum(map(sum, question.shards)) * channels, features)
    bits = np.frombuffer(random_bits(f"noise/{question.model}/{shape}", shape[0] * features), "u1")
    kept = bits.reshape(shape) & 1 == 0
    return kept if question.model == "dropout" else np.broadcast_to(kept[:, :1], shape)


def samples_of(question: GradientQuestion) -> Iterator[tuple[int, int]]:
    """Yields the rank of every sample, in the order of rows, and its index among the rank's own.

    >>> list(samples_of(GradientQuestion("dropout", ((1, 2), (2, 1)))))
    [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]
    """
    counts = [0] * question.world_size
    for shards in question.shards:
        for rank, count in enumerate(shards):
            for _ in range(count):
                yield rank, counts[rank]
                counts[rank] += 1


def rows_of(question: GradientQuestion, gradient: np.ndarray) -> np.ndarray:
    """Returns the gradient of the noisy parameter, a row for each sample."""
    return gradient.reshape(sum(map(sum, question.shards)), -1)


def read(question: GradientQuestion, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reads from gradients what every noise must satisfy.

    Returns:
        `noise/weights` (N, 2), the least and the largest weight of the elements of a sample that
        were kept; and `noise/alike` (W, W), whether some sample of the row's rank and another of
        the column's rank have the same elements dropped.

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
