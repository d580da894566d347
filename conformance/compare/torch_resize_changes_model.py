"""Changes of resizes and pixel shuffles."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from conformance.compare.changes import Option, option
from conformance.compare.torch_called_model import Called, changes

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@changes("interpolate")
def interpolations(call: Called) -> Iterator[Option]:
    """The other modes, and what JAX does under the same name."""
    own, rank = (call.get("mode", "nearest"), call.get("align_corners")), call.x.ndim
    modes = ["nearest", "nearest-exact", _LINEAR.get(rank, ""), *["bicubic"] * (rank == 4)]
    for mode in filter(None, modes):
        for corners in (None,) if "nearest" in mode else (False, True):
            words = f"it is {mode}" + " with aligned corners" * bool(corners)
            if (mode, corners) != (own[0], own[1] if "nearest" in mode else bool(own[1])):
                made = call.again(mode=mode, align_corners=corners)
                yield option("interpolation", words, made)
    size = call().shape[2:]
    for name, kernel in (("linear", _triangle), ("cubic", _cubic)):
        words = f"it is JAX's {name}, which {_OF_JAX[name]}"
        yield option("interpolation", words, lambda k=kernel: _resized(call.x, size, k))
    if all(big % small == 0 for big, small in zip(size, call.x.shape[2:], strict=True)):
        times = [1, 1, *(big // small for big, small in zip(size, call.x.shape[2:], strict=True))]
        words = "the whole is repeated in turn, not each value by itself"
        yield option("interpolation", words, lambda: call.x.repeat(*times))


_OF_JAX = {
    "linear": "smooths first where the result is smaller",
    "cubic": "has another kernel than torch's bicubic, and weights edges otherwise",
}


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic of Keys, with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


def _resized(x: Any, size: Any, kernel: Callable[[np.ndarray], np.ndarray]) -> Any:
    """With weights that sum to one, and a kernel as wide as a step where it is longer than one."""
    for axis, (old, new) in enumerate(zip(x.shape[2:], size, strict=True), 2):
        if old == new:
            continue
        scale = old / new
        places = (np.arange(new) + 0.5) * scale - 0.5
        weights = kernel((places[:, None] - np.arange(old)) / max(scale, 1.0))
        weights = weights / weights.sum(1, keepdims=True)
        x = torch.tensordot(x, torch.from_numpy(weights), ([axis], [1])).movedim(-1, axis)
    return x


@changes("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffles(call: Called) -> Iterator[Option]:
    """Channels that are taken in another order."""
    is_up = call.name == "pixel_shuffle"
    r = call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()))
    channels = call.x.shape[1] // (r * r if is_up else 1)
    for words, axes in (
        ("the block comes before the channels, as in TensorFlow", (1, 2, 0)),
        ("rows and columns of a block are exchanged", (0, 2, 1)),
        ("the block comes before the channels, its columns first", (2, 1, 0)),
    ):
        # Of (C, r, r), which torch has, the axes in the order in which the port has them.
        yield option("pixel-shuffle", words, lambda axes=axes: _reordered(call, axes, channels, r))


def _reordered(call: Called, axes: tuple[int, ...], channels: int, r: int) -> Any:
    lengths = (channels, r, r)
    order = torch.arange(channels * r * r).reshape([lengths[i] for i in axes])
    order = order.permute([axes.index(i) for i in range(3)]).reshape(-1)
    if call.name == "pixel_shuffle":
        return call.on(call.x[:, order])()
    return call()[:, torch.argsort(order)]
