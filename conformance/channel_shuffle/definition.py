"""The right answers about channel shuffle, from the definition S1 alone.

`out[:, k] = in[:, (k mod g)·(C/g) + ⌊k/g⌋]`, for g groups and C channels. Everything else
follows from that line: the shuffle is a permutation, its derivative is itself, and its transpose
is the inverse permutation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from conformance.core.questions import ShuffleQuestion

Map = Callable[[np.ndarray, int], np.ndarray]


def source_channel(k: int, channels: int, groups: int) -> int:
    """Returns the input channel that output channel k copies.

    >>> [source_channel(k, 6, 2) for k in range(6)]
    [0, 3, 1, 4, 2, 5]
    """
    return (k % groups) * (channels // groups) + k // groups


def permutation(channels: int, groups: int) -> np.ndarray:
    """Returns `source_channel` of every k, shape (C,), int64."""
    return np.array([source_channel(k, channels, groups) for k in range(channels)], dtype=np.int64)


def shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """Applies S1 to x (N, C, *spatial): copies the elements' bytes, of any dtype.

    >>> shuffle(np.arange(6).reshape(1, 6, 1), 2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return x[:, permutation(x.shape[1], groups)]


def transpose(cotangent: np.ndarray, groups: int) -> np.ndarray:
    """Applies the transpose of `shuffle`: what came from input channel c goes back to channel c."""
    back = np.empty_like(cotangent)
    back[:, permutation(cotangent.shape[1], groups)] = cotangent
    return back


@dataclass(frozen=True)
class Operator:
    """A map that claims to be the shuffle, with its transpose and its side effects.

    The oracle answers with the right operator, a mistake is a wrong operator in its place. `twice`
    is the transpose of the transpose, and `tangent` the derivative, which are the forward again
    where it is linear and both are right.
    """

    forward: Map
    transpose: Map
    twice: Map | None = None
    tangent: Map | None = None
    aliases: bool = False
    mutates: bool = False


RIGHT = Operator(shuffle, transpose)


def answer(
    question: ShuffleQuestion, inputs: Mapping[str, np.ndarray], operator: Operator = RIGHT
) -> dict[str, np.ndarray]:
    """Returns the named arrays of a right implementation.

    >>> from conformance.channel_shuffle.inputs import inputs
    >>> question = ShuffleQuestion((1, 4, 1), 2)
    >>> answer(question, inputs(question))["output"].ravel().tolist()
    [1.0, 3.0, 2.0, 4.0]
    """
    groups = int(question.groups)
    mapped = question.transform == "vmapped"

    def apply(map_: Map, array: np.ndarray, by: int = groups) -> np.ndarray:
        return np.stack([map_(sample, by) for sample in array]) if mapped else map_(array, by)

    output = apply(operator.forward, inputs["input"])
    for by in question.then:
        output = apply(operator.forward, output, by)
    answers = {"output": output}
    if question.derivative in ("vjp", "double"):
        answers["input_cotangent"] = apply(operator.transpose, inputs["cotangent"])
    if question.derivative == "jvp":
        answers["output_tangent"] = apply(operator.tangent or operator.forward, inputs["tangent"])
    if question.derivative == "double":
        twice = operator.twice or operator.forward
        answers["cotangent_cotangent"] = apply(twice, inputs["second"])
    match question.observe:
        case "strides":
            answers["strides"] = np.array(dense_strides(question.shape, question.layout))
        case "effects":
            answers["shares_memory"] = np.array(operator.aliases)
            answers["input_after"] = output if operator.mutates else inputs["input"]
        case "graph":
            answers["shuffle_nodes"] = np.array(1)
        case "modules":
            answers["output_in_training"] = output
            answers["state_entries"] = np.array(0)
        case "convolutions":
            hidden = grouped_pointwise(inputs["input"], inputs["first_kernel"], groups)
            mixed = operator.forward(hidden, groups)
            answers["output"] = grouped_pointwise(mixed, inputs["second_kernel"], groups)
        case "values":
            pass
    return answers


def dense_strides(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Returns the strides in elements of a dense tensor whose channels lie last, or on axis 1.

    >>> dense_strides((2, 12, 3, 5), "channels_last")
    (180, 1, 60, 12)
    """
    axes = list(range(len(shape)))
    order = [0, *axes[2:], 1] if layout.startswith("channels_last") else axes
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis], step = step, step * shape[axis]
    return tuple(strides)


def grouped_pointwise(x: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    """Convolves 1×1 in g groups: x (N, C, H, W), kernel (C, C/g, 1, 1), both small integers.

    Sums of small integers are exact in float64 and, by the cases' choice, in float32.
    """
    samples, channels, height, width = x.shape
    parts = x.reshape(samples, groups, channels // groups, height, width).astype(np.float64)
    weights = kernel.reshape(groups, channels // groups, channels // groups).astype(np.float64)
    sums = np.einsum("ngihw,goi->ngohw", parts, weights)
    return sums.reshape(x.shape).astype(x.dtype)
