"""Forward and hand-written backward of causal attention with one head, over any number system.

Indices: n sample, i and j tokens, c features in, d features of the head.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.arithmetic.system import Numbers, negative
from conformance.gradient_mean.models import ATTENDING, Layer, attention_scale

Tensors = dict[str, Any]


def attention(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any
) -> tuple[Any, Callable[[Any], tuple[Any, Tensors]]]:
    """Returns the mean of the values up to each token, weighed by softmax, and its pullback."""
    weights = {name: state[f"{layer.name}.{name}.weight"] for name in ATTENDING}
    query, key, value = (
        numbers.stored(numbers.contract("nic,dc->nid", x, weights[name])) for name in ATTENDING
    )
    scale = attention_scale(layer)
    scores = numbers.stored(numbers.scale(numbers.contract("nid,njd->nij", query, key), scale))
    shares = _softmax(numbers, scores)
    y = numbers.contract("nij,njd->nid", shares, value)

    def pull(dy: Any) -> tuple[Any, Tensors]:
        d_shares = numbers.stored(numbers.contract("nid,njd->nij", dy, value))
        mean = numbers.stored(numbers.total(numbers.multiply(shares, d_shares), (2,)))
        d_scores = numbers.multiply(shares, numbers.add(d_shares, negative(numbers, mean)))
        d_scores = numbers.stored(numbers.scale(d_scores, scale))
        derivatives = (
            numbers.contract("nij,njd->nid", d_scores, key),
            numbers.contract("nij,nid->njd", d_scores, query),
            numbers.contract("nij,nid->njd", shares, dy),
        )
        stored = dict(zip(ATTENDING, map(numbers.stored, derivatives), strict=True))
        first, *others = (
            numbers.contract("nid,dc->nic", d, weights[name]) for name, d in stored.items()
        )
        dx = first
        for other in others:
            dx = numbers.add(dx, other)
        return dx, {
            f"{layer.name}.{name}.weight": numbers.contract("nid,nic->dc", d, x)
            for name, d in stored.items()
        }

    return y, pull


def _softmax(numbers: Numbers, scores: Any) -> Any:
    """Returns exponentials over their sum, along the tokens up to each one."""
    tokens: list[int] = []

    def up_to_each(v: np.ndarray) -> np.ndarray:
        """Puts a token's own score in the place of every later one, so that it changes no max."""
        tokens.append(v.shape[1])
        places = np.minimum(np.arange(tokens[0]), np.arange(tokens[0])[:, None])
        return np.take_along_axis(v, np.broadcast_to(places, v.shape), 2)

    scores = numbers.moved(scores, up_to_each)
    is_past = np.tri(tokens[0], dtype=bool)
    place = numbers.largest(scores, 2, certain=False)
    largest = numbers.stored(numbers.total(numbers.keep(scores, place), (2,)))
    shifted = numbers.stored(numbers.add(scores, negative(numbers, largest)))
    total = numbers.total(numbers.keep(numbers.exp(shifted), is_past), (2,))
    shares = numbers.exp(numbers.add(shifted, negative(numbers, numbers.log(total))))
    # As a quotient of exponentials it meets a reciprocal and a product.
    return numbers.stored(numbers.keep(numbers.with_roundings(shares, 2), is_past))
