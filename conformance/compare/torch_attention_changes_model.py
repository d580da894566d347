"""Changes that ports make to attention: its scale, masks, heads, rotary embedding and softmax."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from conformance.compare.changes import Option, option
from conformance.compare.torch_called_model import Called, changes

_NEIGHBOURS = "it rotates neighbours, (0, 1), (2, 3), …, where halves are right"
_SHIFTS = ((0, "it masks what comes later"), (1, "the mask is shifted by 1"),
           (-1, "the mask is shifted by -1"))  # fmt: skip
_INVERTED = "what may be seen is masked, and what may not is seen"
_BEFORE_MASKS = {"scaled_dot_product_attention": 3}  # How many arguments come before its mask.


def _rotary(made: Callable[..., Any]) -> Option:
    return option("rotary-layout", _NEIGHBOURS, made)


@changes("cat", "concat", "concatenate")
def rotary_joins(call: Called) -> Iterator[Option]:
    """Two halves that are joined."""
    parts = list(call.x)
    is_last = call.get("dim", 0) in (-1, parts[0].ndim - 1)
    if len(parts) == 2 and is_last and parts[0].shape == parts[1].shape:
        yield _rotary(lambda: torch.stack(parts, -1).flatten(-2))
        yield option("rotary-sign", "it rotates the other way round", lambda: -call())


@changes("chunk", "split", "tensor_split")
def rotary_splits(call: Called) -> Iterator[Option]:
    """An axis that is split into two halves."""
    if call.get("dim", 0) in (-1, call.x.ndim - 1) and len(call()) == 2:
        yield _rotary(lambda: (call.x[..., ::2], call.x[..., 1::2]))


@changes("__getitem__")
def halves(call: Called) -> Iterator[Option]:
    """x[..., : d / 2] and x[..., d / 2 :]."""
    x, index = call.args
    half = x.shape[-1] // 2 if x.ndim else 0
    is_last = isinstance(index, tuple) and len(index) == 2 and index[0] is Ellipsis
    if is_last and isinstance(index[1], slice) and half:
        if index[1] in (slice(None, half), slice(0, half)):
            yield _rotary(lambda: x[..., ::2])
        elif index[1] == slice(half, None):
            yield _rotary(lambda: x[..., 1::2])


@changes("repeat_interleave")
def repeats(call: Called) -> Iterator[Option]:
    """Heads of keys and values, each of which several queries share."""
    axis, count = call.get("dim"), call.get("repeats")
    if axis is not None and isinstance(count, int):
        words = "all heads are repeated in turn, not each by itself"
        yield option("heads-repeated", words, lambda: torch.cat([call.x] * count, axis))


@changes("masked_fill", "masked_fill_")
def masks(call: Called) -> Iterator[Option]:
    """Scores that are filled where a mask says so."""
    yield option("causal-mask", "nothing is masked", call.left_out())
    mask = call.get("mask")
    for words, other in _shifted(mask):
        yield option("causal-mask", words, call.again(mask=other))
    yield option("mask-inverted", _INVERTED, call.again(mask=~mask))
    if mask.ndim > 1 and mask.shape[-1] == mask.shape[-2]:
        others = ~mask & ~torch.eye(mask.shape[-1], dtype=torch.bool)
        words = f"{_INVERTED}, but for the diagonal"
        yield option("mask-inverted", words, call.again(mask=others))


@changes("where")
def choices(call: Called) -> Iterator[Option]:
    """Scores that are kept where a mask says so."""
    if len(call.args) == 3 and isinstance(call.args[1], torch.Tensor) and call.args[1].ndim >= 2:
        yield option("causal-mask", "nothing is masked", call.left_out(call.args[1]))
        for words, other in _shifted(call.x):
            yield option("causal-mask", words, call.on(other))
        yield option("mask-inverted", _INVERTED, call.on(~call.x))


def _shifted(mask: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A triangle that is shifted by one: what may be seen, or what may not."""
    if not isinstance(mask, torch.Tensor) or mask.ndim < 2 or mask.shape[-1] != mask.shape[-2]:
        return
    ones = torch.ones_like(mask)
    for side, of in ((torch.tril, 0), (torch.triu, 1)):
        if torch.equal(side(ones, of), mask):
            for shift in (-1, 1):
                other = side(ones, of + shift)
                yield f"the mask is shifted by {shift}", other
                if mask.dtype == torch.bool:  # A first row that sees nothing is often mended so.
                    other = other.clone()
                    other[..., 0, 0] = mask[..., 0, 0]
                    yield f"the mask is shifted by {shift}, but for the first place", other


@changes("triu", "tril")
def triangles(call: Called) -> Iterator[Option]:
    """The mask of what comes later."""
    for shift in (-1, 1):
        made = call.again(diagonal=call.get("diagonal", 0) + shift)
        yield option("causal-mask", f"the mask is shifted by {shift}", made)


def _masks(call: Called, rows: int, columns: int, *, masked: bool) -> Iterator[Option]:
    """Other masks of an attention that takes one: 0 where a key may be seen, else -∞."""
    shifts = [*([(None, "nothing is masked")] if masked else []), *_SHIFTS]
    for shift, words in shifts:
        mask = None
        if shift is not None:
            mask = torch.full((rows, columns), float("-inf")).triu(1 + shift)
        others = {"attn_mask": mask, "is_causal": False}
        if "key_padding_mask" in call.kwargs and shift is None:
            others["key_padding_mask"] = None
        made = partial(call.func, *call.args[:_BEFORE_MASKS.get(call.name)],
                       **{**call.kwargs, **others})  # fmt: skip
        yield option("causal-mask", words, made)


@changes("scaled_dot_product_attention")
def attention(call: Called) -> Iterator[Option]:
    """Attention with another scale, mask or sum."""
    q, k, v = call.args[:3]
    width = q.shape[-1]
    heads = width * q.shape[1] if q.ndim == 4 else q.shape[-2]
    for scale, words in (
        (1.0, "not scaled"), (1.0 / width, "divided by the width"),
        (heads**-0.5, "divided by the root of all heads' width"),
    ):  # fmt: skip
        yield option("attention-scale", f"its scores are {words}", call.again(scale=scale))
    mask = call.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        yield option("mask-inverted", _INVERTED, call.again(attn_mask=~mask))
    if q.shape == k.shape == v.shape:
        for words, order in (
            ("its queries and keys are exchanged", (k, q, v)),
            ("its keys and values are exchanged", (q, v, k)),
            ("its queries and values are exchanged", (v, k, q)),
        ):
            made = partial(call.func, *order, *call.args[3:], **call.kwargs)
            yield option("other-input", words, made)
    masked = call.get("is_causal", False) or call.get("attn_mask") is not None
    yield from _masks(call, q.shape[-2], k.shape[-2], masked=masked)
    if not masked:
        yield option("softmax-axis", "its sum is over the queries", lambda: torch.softmax(
            q @ k.transpose(-1, -2) * width**-0.5, -2) @ v)  # fmt: skip


@changes("multi_head_attention_forward")
def whole_attention(call: Called) -> Iterator[Option]:
    """The function of `nn.MultiheadAttention`, by its masks and by its kernels."""
    q, k, heads = call.args[0], call.args[1], call.args[4]
    width = q.shape[-1] // heads
    named = [call.kwargs.get(name) for name in ("attn_mask", "key_padding_mask")]
    masked = any(mask is not None for mask in named)
    yield from _masks(call, q.shape[0], k.shape[0], masked=masked)
    for name in ("attn_mask", "key_padding_mask"):
        mask = call.kwargs.get(name)
        if mask is not None and mask.dtype == torch.bool:
            made = partial(call.func, *call.args, **{**call.kwargs, name: ~mask})
            yield option("mask-inverted", _INVERTED, made)
    yield option("sequence-order", "it attends over the batch", partial(_over_batch, call))
    if call.args[5] is None:
        return
    for factor, words in ((width**0.5, "not scaled"), (width**-0.5, "divided by the width")):
        made = partial(_with_rows, call, partial(_queries_scaled, factor), None)
        yield option("attention-scale", f"its scores are {words}", made)
    order = torch.arange(heads * width).reshape(width, heads).T.reshape(-1)
    rows = torch.cat([order + i * heads * width for i in range(3)])
    words = "the width is split as (D, H) where (H, D) is right"
    yield option("heads-split", words, partial(_with_rows, call, lambda w: w[rows], order))


def _over_batch(call: Called) -> Any:
    """With the first two axes exchanged, as where batch_first is mistaken."""
    out, weights = call.func(*(x.transpose(0, 1) for x in call.args[:3]), *call.args[3:],
                             **call.kwargs)  # fmt: skip
    return out.transpose(0, 1), weights


def _queries_scaled(factor: float, rows: Any) -> Any:
    scale = torch.ones(rows.shape[0])
    scale[: rows.shape[0] // 3] = factor
    return rows * scale.reshape(-1, *(1 for _ in rows.shape[1:]))


def _with_rows(call: Called, changed: Callable[[Any], Any], columns: Any) -> Any:
    """With other rows of the kernels of queries, keys and values; and columns of the last one."""
    args = list(call.args)
    args[5:7] = [None if rows is None else changed(rows) for rows in args[5:7]]
    if columns is not None:
        args[11] = args[11][:, columns]  # Of the kernel that takes the heads' results.
    return call.func(*args, **call.kwargs)


@changes("embedding")
def embeddings(call: Called) -> Iterator[Option]:
    """An embedding that is scaled."""
    words, width = "it multiplies by the root of the width", call.get("weight").shape[-1]
    yield option("embedding-scale", words, lambda: call() * width**0.5)


@changes("softmax", "log_softmax")
def softmaxes(call: Called) -> Iterator[Option]:
    """A softmax over another axis, or another function."""
    for other in ("sigmoid", "nothing"):
        words = f"what came out is {other} where {call.name} is right"
        made = call.left_out() if other == "nothing" else partial(torch.sigmoid, call.x)
        yield option("activation", words, made)
    other, function = "log_softmax", torch.log_softmax
    if call.name == other:
        other, function = "softmax", torch.softmax
    words = f"what came out is {other} where {call.name} is right"
    yield option("activation", words, partial(function, call.x, call.get("dim", -1)))
    for axis in range(-call.x.ndim, 0):
        words = f"its sum is over axis {axis}"
        yield option("softmax-axis", words, partial(getattr(torch, call.name), call.x, axis))
