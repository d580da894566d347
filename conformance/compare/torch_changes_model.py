"""Changes that ports are known to make, tried on a torch original at one of the functions it calls.

A run of the original with a change asks each function that is called, in order, whether it is the
one to change. What the function is then made to do is a function of its own arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Site
from conformance.compare.torch_layer_changes_model import (
    ACTIVATIONS,
    DEFAULTS,
    EPSILONS,
    NORMS,
    Made,
    activations,
    convolutions,
    interpolations,
    norms,
    paddings,
    pools,
    transposed_convolutions,
)

_LINEAR = {
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "cat",
    "concat",
    "add",
    "__add__",
}


class Change:
    """Asked of every function that is called: which of them to change, and into what."""

    def __init__(self, chosen: Mapping[int, tuple[str, str]] | None = None) -> None:
        """Changes nothing where nothing is chosen, and notes what could be changed."""
        self.sites: list[Site] = []
        self.chosen = dict(chosen or {})
        self._watch: Any = None
        self._state: dict[str, Any] = {}

    def begin(self, watch: Any) -> None:
        """A run begins; `watch` knows which submodule is being called."""
        self._watch, self._state = watch, {}
        self.sites = []

    def given(self, path: str, args: Any, kwargs: Any) -> Any:
        """What a submodule is given instead; a site of its own, for norms that centre."""
        if not _is_rms(self._watch.kinds.get(path, "")) or not args:
            return None
        option = Option(
            Cause("rms-norm-centred", "the mean is taken off, as in a layer norm"), _centred
        )
        number, key = len(self.sites), self.chosen.get(len(self.sites))
        self.sites.append(Site(number, path, len(self._watch.seen), (option,), "a module"))
        return ((_centred(args[0]), *args[1:]), kwargs) if key == option.key else None

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function's result, changed where it was chosen."""
        name = getattr(func, "__name__", "")
        with _disable_current_modes():
            options = tuple(_options(name, func, args, kwargs, self._state))
        number, key = len(self.sites), None
        if options:
            key = self.chosen.get(number)
            self.sites.append(Site(number, self._watch.path, len(self._watch.seen), options, name))
        for option in options if key is not None else ():
            if option.key == key:
                result = option.made(*args, **kwargs)
                break
        else:
            result = func(*args, **kwargs)
        self._state = _after(name, args, kwargs, result, self._state)
        return result


def _is_rms(kind: str) -> bool:
    return "rms" in kind.lower()


def _centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def _after(name: str, args: Any, kwargs: Any, result: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Remembers the reshape that splits an axis, for the one that merges it again."""
    if name in ("view", "reshape") and isinstance(args[0], torch.Tensor):
        return {"split": args[0], "shape": tuple(result.shape)}
    if name in ("transpose", "permute", "contiguous", "swapaxes") and "split" in state:
        return state
    return state if name in ("size", "__get__", "dim", "stride") else {}


def _options(
    name: str, func: Any, args: Any, kwargs: Any, state: dict[str, Any]
) -> Iterator[Option]:
    if not args or not isinstance(args[0], torch.Tensor | list | tuple):
        return
    if name in ACTIVATIONS or name in ("gelu", "hardtanh", "relu_", "leaky_relu_"):
        yield from activations(name, args, kwargs)
    if name in NORMS:
        yield from norms(name, func)
    if name in _LINEAR or name in NORMS:
        for other in ("relu", "gelu (erf)", "gelu (tanh)", "silu", "tanh"):

            def then(*a: Any, act: Made = ACTIVATIONS[other], **k: Any) -> Any:
                return act(func(*a, **k))

            yield Option(
                Cause("activation", f"{other} was applied where there is no activation"), then
            )
    for names, options in _FAMILIES:
        if name in names:
            yield from options(func, args, kwargs)
    if name in ("view", "reshape") and "split" in state:
        yield from _shuffles(state, args, kwargs, func)


def _joins(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    parts = list(args[0])
    if len(parts) == 2 and axis in (-1, parts[0].ndim - 1) and parts[0].shape == parts[1].shape:
        yield Option(_ROTARY, lambda xs, *a, **k: torch.stack(list(xs), -1).flatten(-2))
    yield Option(Cause("concatenation-order", "its parts are joined the other way round"),
                 lambda xs, *a, **k: func(list(xs)[::-1], *a, **k))  # fmt: skip


_ROTARY = Cause("rotary-layout", "it rotates neighbours, (0, 1), (2, 3), …, where halves are right")


def _halves(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """x[..., : d / 2] and x[..., d / 2 :]."""
    x, index = args
    last = index[-1] if isinstance(index, tuple) and index and index[0] is Ellipsis else None
    half = x.shape[-1] // 2 if x.ndim else 0
    if isinstance(last, slice) and last.step is None and len(index) == 2 and half:
        if last.stop == half and not last.start:
            yield Option(_ROTARY, lambda x, _: x[..., ::2])
        elif last.start == half and last.stop is None:
            yield Option(_ROTARY, lambda x, _: x[..., 1::2])


def _splits(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    parts = len(func(*args, **kwargs))

    def every(x: Any, *a: Any, **k: Any) -> Any:
        index = [slice(None)] * x.ndim
        outs = []
        for i in range(parts):
            index[axis] = slice(i, None, parts)
            outs.append(x[tuple(index)])
        return tuple(outs)

    if parts == 2 and axis in (-1, args[0].ndim - 1):
        yield Option(_ROTARY, every)
    yield Option(
        Cause("split-interleaved", f"each part has every {parts}th entry, not a block"), every
    )
    for order in permutations(range(parts)) if parts <= 4 else ():
        if order != tuple(range(parts)):
            name = "gate-order" if parts in (3, 4) else "concatenation-order"
            yield Option(Cause(name, f"its {parts} parts are taken in the order {list(order)}"),
                         lambda *a, o=order, **k: tuple(func(*a, **k)[i] for i in o))  # fmt: skip


def _scalings(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    if len(args) > 1 and isinstance(args[1], int | float):
        yield Option(
            Cause("scale-left-out", f"the factor {args[1]:g} is left out"), lambda x, *a: x * 1.0
        )


def _additions(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    other = args[1] if len(args) > 1 else None
    if isinstance(other, float) and 0 < other < 0.01:
        for value in EPSILONS:
            name = "default-epsilon" if value in DEFAULTS else "epsilon"
            if value != other:
                yield Option(Cause(name, f"its epsilon is {value:g} where {other:g} is right"),
                             lambda x, *a, v=value: x + v)  # fmt: skip
    if (
        isinstance(other, torch.Tensor)
        and other.is_floating_point()
        and bool(torch.isinf(other).any())
    ):
        yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a: x * 1.0)
    if isinstance(other, torch.Tensor):
        yield Option(
            Cause("term-left-out", "the second of two terms is not added"), lambda x, *a: x * 1.0
        )


def _masks(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a, **k: x * 1.0)


def _triangles(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    own = args[1] if len(args) > 1 else kwargs.get("diagonal", 0)
    for shift in (-1, 1):
        yield Option(Cause("causal-mask", f"the mask is shifted by {shift}"),
                     lambda x, *a, d=own + shift, **k: func(x, d))  # fmt: skip


def _attention(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    width = args[0].shape[-1]
    yield Option(Cause("attention-scale", "its scores are not scaled"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0}))  # fmt: skip
    yield Option(Cause("attention-scale", "its scores are divided by the width"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0 / width}))  # fmt: skip
    causal = bool(kwargs.get("is_causal"))
    words = "nothing is masked" if causal else "it masks what comes later"
    other = {"attn_mask": None, "is_causal": not causal}
    yield Option(Cause("causal-mask", words), lambda *a, **k: func(*a[:3], **{**k, **other}))


def _embeddings(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    yield Option(Cause("embedding-scale", "it multiplies by the root of the width"),
                 lambda *a, **k: func(*a, **k) * weight.shape[-1] ** 0.5)  # fmt: skip


def _softmaxes(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    for axis in range(-args[0].ndim, 0):
        yield Option(Cause("softmax-axis", f"its sum is over axis {axis}"),
                     lambda x, *a, d=axis, **k: torch.softmax(x, d))  # fmt: skip


def _flattened(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    x = args[0]
    if x.ndim >= 4:
        yield Option(
            Cause(
                "reinterpreted-layout",
                "flattened in the order (H, W, C) where the next kernel's rows are in the order "
                "(C, H, W): move the channels before the reshape",
            ),
            lambda x, *a, **k: func(x.movedim(1, -1).contiguous(), *a, **k),
        )  # fmt: skip


def _untransposed(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    yield Option(Cause("axes-not-swapped", "two axes are not swapped"), lambda x, *a, **k: x * 1.0)


def _reshapes(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """An axis split as (b, a) where (a, b) is right."""
    x, shape = args[0], args[1:] if len(args) > 2 else args[1] if len(args) > 1 else ()
    if not isinstance(shape, tuple | list | torch.Size) or not all(
        isinstance(s, int) for s in shape
    ):
        return
    if len(shape) == 2 and x.ndim >= 4:
        yield from _flattened(func, args, kwargs)
    for i in range(len(shape) - 1):
        if len(shape) == x.ndim + 1 and shape[i] * shape[i + 1] == x.shape[i] and shape[i] > 0:
            swapped = [*shape[:i], shape[i + 1], shape[i], *shape[i + 2 :]]
            yield Option(Cause("heads-split", f"axis {i} is split as ({shape[i + 1]}, {shape[i]}) "
                               f"where ({shape[i]}, {shape[i + 1]}) is right"),
                         lambda x, *a, s=swapped, j=i: func(x, s).transpose(j, j + 1))  # fmt: skip


def _shuffles(state: dict[str, Any], args: Any, kwargs: Any, func: Any) -> Iterator[Option]:
    """The reshape that ends a channel shuffle: split, transposed, merged."""
    x, split = state["split"], state["shape"]
    out = args[1:] if len(args) > 2 else args[1]
    whole = tuple(int(s) for s in out) if isinstance(out, tuple | list | torch.Size) else (out,)
    if (
        len(split) != x.ndim + 1
        or prod(split) != x.numel()
        or len(whole) not in (x.ndim, x.ndim - 1)
    ):
        return
    axis = next((i for i in range(x.ndim) if split[i] != x.shape[i]), None)
    if axis is None or split[axis] * split[axis + 1] != x.shape[axis]:
        return
    yield from _shuffle_options(x, axis, split[axis], whole)


def _shuffle_options(x: Any, axis: int, groups: int, whole: Any) -> Iterator[Option]:
    def shuffled(x: Any, g: int, at: int) -> Any:
        s = x.shape
        split = x.reshape(*s[:at], g, s[at] // g, *s[at + 1 :])
        return split.transpose(at, at + 1).reshape(whole)

    channels = x.shape[axis]
    words = f"shuffled with {channels // groups} groups where {groups} is right"
    yield Option(
        Cause("inverse-groups", words), lambda *a, **k: shuffled(x, channels // groups, axis)
    )
    yield Option(Cause("no-transpose", "the channels are in the order they had"),
                 lambda *a, **k: x.reshape(whole) * 1.0)  # fmt: skip
    yield Option(Cause("reversed-channels", "the channels are in reverse"),
                 lambda *a, **k: x.flip(axis).reshape(whole))  # fmt: skip
    for other in range(1, x.ndim):
        if other != axis and x.shape[other] % groups == 0:
            words = f"axis {other} is shuffled, not channels"
            yield Option(
                Cause("wrong-axis-channels-last", words),
                lambda *a, o=other, **k: shuffled(x, groups, o),
            )


def _own_shuffle(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    groups = args[1] if len(args) > 1 else kwargs["groups"]
    yield from _shuffle_options(args[0], 1, groups, tuple(args[0].shape))


_FAMILIES: tuple[tuple[set[str], Callable[..., Iterator[Option]]], ...] = (
    ({"conv1d", "conv2d", "conv3d"}, convolutions),
    ({"conv_transpose1d", "conv_transpose2d"}, transposed_convolutions),
    ({"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}, pools),
    ({"__getitem__"}, _halves),
    ({"interpolate"}, interpolations),
    ({"pad"}, paddings),
    ({"cat", "concat", "concatenate"}, _joins),
    ({"chunk", "split", "tensor_split"}, _splits),
    ({"mul", "__mul__", "__rmul__", "div", "__truediv__"}, _scalings),
    ({"add", "__add__", "__radd__", "__iadd__", "add_"}, _additions),
    ({"masked_fill", "masked_fill_"}, _masks),
    ({"triu", "tril"}, _triangles),
    ({"scaled_dot_product_attention"}, _attention),
    ({"embedding"}, _embeddings),
    ({"softmax"}, _softmaxes),
    ({"flatten"}, _flattened),
    ({"transpose", "permute", "swapaxes"}, _untransposed),
    ({"view", "reshape"}, _reshapes),
    ({"channel_shuffle", "native_channel_shuffle"}, _own_shuffle),
)
