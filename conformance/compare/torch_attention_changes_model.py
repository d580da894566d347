"""Changes that ports make to attention: its scale, masks, heads, rotary embedding and softmax."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Previous

_ROTARY = Cause("rotary-layout", "it rotates neighbours, (0, 1), (2, 3), …, where halves are right")


def rotary_joins(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Two halves that are joined."""
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    parts = list(args[0])
    if len(parts) == 2 and axis in (-1, parts[0].ndim - 1) and parts[0].shape == parts[1].shape:
        yield Option(_ROTARY, lambda xs, *a, **k: torch.stack(list(xs), -1).flatten(-2))


def rotary_splits(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """An axis that is split into two halves."""
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    if len(func(*args, **kwargs)) == 2 and axis in (-1, args[0].ndim - 1):
        yield Option(_ROTARY, lambda x, *a, **k: (x[..., ::2], x[..., 1::2]))


def halves(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """x[..., : d / 2] and x[..., d / 2 :]."""
    x, index = args
    last = index[-1] if isinstance(index, tuple) and index and index[0] is Ellipsis else None
    half = x.shape[-1] // 2 if x.ndim else 0
    if isinstance(last, slice) and last.step is None and len(index) == 2 and half:
        if last.stop == half and not last.start:
            yield Option(_ROTARY, lambda x, _: x[..., ::2])
        elif last.start == half and last.stop is None:
            yield Option(_ROTARY, lambda x, _: x[..., 1::2])


def masks(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Scores that are filled where a mask says so."""
    yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a, **k: x * 1.0)
    for words, other in _shifted(args[1] if len(args) > 1 else kwargs["mask"]):
        yield Option(Cause("causal-mask", words), lambda x, m, *a, o=other, **k: func(x, o, *a))


def choices(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Scores that are kept where a mask says so."""
    if len(args) != 3 or not isinstance(args[1], torch.Tensor) or args[1].ndim < 2:
        return
    yield Option(Cause("causal-mask", "nothing is masked"), lambda m, x, *a: x * 1.0)
    for words, other in _shifted(args[0]):
        yield Option(Cause("causal-mask", words), lambda m, *a, o=other: func(o, *a))


def _shifted(mask: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A triangle that is shifted by one: what may be seen, or what may not."""
    if not isinstance(mask, torch.Tensor) or mask.ndim < 2 or mask.shape[-1] != mask.shape[-2]:
        return
    ones = torch.ones_like(mask)
    for side, of in ((torch.tril, 0), (torch.triu, 1)):
        if torch.equal(side(ones, of), mask):
            for shift in (-1, 1):
                yield f"the mask is shifted by {shift}", side(ones, of + shift)


def triangles(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """The mask of what comes later."""
    own = args[1] if len(args) > 1 else kwargs.get("diagonal", 0)
    for shift in (-1, 1):
        yield Option(Cause("causal-mask", f"the mask is shifted by {shift}"),
                     lambda x, *a, d=own + shift, **k: func(x, d))  # fmt: skip


def _causal(scores: Any, shift: int) -> torch.Tensor:
    """0 where a key may be seen, -∞ where it comes later."""
    rows, columns = scores
    return torch.full((rows, columns), float("-inf")).triu(1 + shift)


def attention(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """`scaled_dot_product_attention` with another scale or mask."""
    width, lengths = args[0].shape[-1], (args[0].shape[-2], args[1].shape[-2])
    yield Option(Cause("attention-scale", "its scores are not scaled"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0}))  # fmt: skip
    yield Option(Cause("attention-scale", "its scores are divided by the width"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0 / width}))  # fmt: skip
    masked = kwargs.get("is_causal") or kwargs.get("attn_mask") is not None or len(args) > 3
    choices: list[tuple[int | None, str]] = [(None, "nothing is masked")] if masked else []
    choices += [(0, "it masks what comes later"), (1, "the mask is shifted by 1"),
                (-1, "the mask is shifted by -1")]  # fmt: skip
    for shift, words in choices:
        mask = None if shift is None else _causal(lengths, shift)
        other = {"attn_mask": mask, "is_causal": False}
        yield Option(Cause("causal-mask", words),
                     lambda *a, o=other, **k: func(*a[:3], **{**k, **o}))  # fmt: skip

    if not masked:
        yield Option(Cause("softmax-axis", "its sum is over the queries"), _over_queries)


def _over_queries(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return torch.softmax(scores, -2) @ v


def whole_attention(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """The function of `nn.MultiheadAttention`, by its masks and by its kernels."""
    heads, batch_of = args[4], args[0]
    lengths = args[0].shape[0], args[1].shape[0]
    width = batch_of.shape[-1] // heads
    masked = kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None
    if masked:
        none = {"attn_mask": None, "key_padding_mask": None, "is_causal": False}
        yield Option(Cause("causal-mask", "nothing is masked"),
                     lambda *a, **k: func(*a, **{**k, **none}))  # fmt: skip
    for shift, words in ((0, "it masks what comes later"), (1, "the mask is shifted by 1"),
                         (-1, "the mask is shifted by -1")):  # fmt: skip
        yield Option(Cause("causal-mask", words), lambda *a, s=shift, **k: func(
            *a, **{**k, "attn_mask": _causal(lengths, s), "is_causal": False}))  # fmt: skip
    if args[5] is None:
        return
    for factor, words in ((width**0.5, "its scores are not scaled"),
                          (width**-0.5, "its scores are divided by the width")):  # fmt: skip
        yield Option(Cause("attention-scale", words), _rows_of_queries(func, factor))
    yield Option(Cause("heads-split", "the width is split as (D, H) where (H, D) is right"),
                 _heads_otherwise(func, heads, width))  # fmt: skip


def _rows_of_queries(func: Any, factor: float) -> Callable[..., Any]:
    def made(
        q: Any, k: Any, v: Any, e: Any, h: Any, weight: Any, bias: Any, *a: Any, **kw: Any
    ) -> Any:
        scale = torch.ones(weight.shape[0])
        scale[: weight.shape[0] // 3] = factor
        bias = None if bias is None else bias * scale
        return func(q, k, v, e, h, weight * scale[:, None], bias, *a, **kw)

    return made


def _heads_otherwise(func: Any, heads: int, width: int) -> Callable[..., Any]:
    """Rows of the kernels in the order in which a split as (D, H) takes them."""

    def made(
        q: Any, k: Any, v: Any, e: Any, h: Any, weight: Any, bias: Any, *a: Any, **kw: Any
    ) -> Any:
        order = torch.arange(heads * width).reshape(width, heads).T.reshape(-1)
        rows = torch.cat([order + i * heads * width for i in range(3)])
        out = list(a)
        out[4] = out[4][:, order]  # The columns of the kernel that takes the heads' results.
        return func(q, k, v, e, h, weight[rows], None if bias is None else bias[rows], *out, **kw)

    return made


def embeddings(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """An embedding that is scaled."""
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    yield Option(Cause("embedding-scale", "it multiplies by the root of the width"),
                 lambda *a, **k: func(*a, **k) * weight.shape[-1] ** 0.5)  # fmt: skip


def softmaxes(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """A softmax over another axis."""
    for axis in range(-args[0].ndim, 0):
        yield Option(Cause("softmax-axis", f"its sum is over axis {axis}"),
                     lambda x, *a, d=axis, **k: torch.softmax(x, d))  # fmt: skip
