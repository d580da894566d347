"""Changes that ports are known to make, tried on a torch original at one of the functions it calls.

A run of the original with a change asks each function that is called, in order, whether it is the
one to change. What the function is then made to do is a function of its own arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from conformance.compare import torch_attention_changes_model as attention
from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Previous, Site
from conformance.compare.torch_code_changes_model import FAMILIES, Family
from conformance.compare.torch_layer_changes_model import (
    ACTIVATIONS,
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
from conformance.compare.trace import INPUT

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

    def __init__(self, chosen: Mapping[int, tuple[str, str]], *, records: bool = False) -> None:
        """Makes the changes that are chosen; where it records, it notes what could be changed."""
        self.sites: list[Site] = []
        self._records, self._number = records, 0
        self.chosen = dict(chosen or {})
        self._watch: Any = None
        self._previous = Previous()

    def begin(self, watch: Any) -> None:
        """A run begins; `watch` knows which submodule is being called."""
        self._watch, self._previous = watch, Previous()
        self.sites, self._number = [], 0

    def given(self, path: str, args: Any, kwargs: Any) -> Any:
        """What a submodule is given instead; a site of its own, for norms that centre."""
        if not _is_rms(self._watch.kinds.get(path, "")) or not args:
            return None
        option = Option(
            Cause("rms-norm-centred", "the mean is taken off, as in a layer norm"), _centred
        )
        number, self._number = self._number, self._number + 1
        key = self.chosen.get(number)
        self.sites.append(Site(number, path, len(self._watch.seen), (option,), "a module", 0))
        return ((_centred(args[0]), *args[1:]), kwargs) if key == option.key else None

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function's result, changed where it was chosen."""
        name = getattr(func, "__name__", "")
        number, self._number = self._number, self._number + 1
        key = self.chosen.get(number)
        made = func
        if self._records or key is not None:
            options = self._options(name, func, args, kwargs)
            if options:
                since, depends = len(self._watch.seen), self._watch.depended(args)
                site = Site(number, self._watch.path, since, options, name, depends)
                self.sites.append(site)
            made = next((option.made for option in options if option.key == key), func)
        result = made(*args, **kwargs)
        self._previous = _after(name, args, result, self._previous)
        return result

    def _options(self, name: str, func: Any, args: Any, kwargs: Any) -> tuple[Option, ...]:
        with _disable_current_modes():
            options = tuple(_options(name, func, args, kwargs, self._previous))
        if self._watch.depended(args) & INPUT:
            return options
        # Heads are of what the model is given, not of tables.
        return tuple(option for option in options if option.cause.name != "heads-split")


def _is_rms(kind: str) -> bool:
    return "rms" in kind.lower()


def _centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def _after(name: str, args: Any, result: Any, previous: Previous) -> Previous:
    """Remembers the reshape that splits an axis, for the one that merges it again."""
    if name in ("view", "reshape") and isinstance(args[0], torch.Tensor):
        return Previous(name, args[0], tuple(result.shape))
    if name in ("transpose", "permute", "contiguous", "swapaxes"):
        return replace(previous, name=name)
    if name in ("size", "__get__", "dim", "stride", "") or not isinstance(result, torch.Tensor):
        return previous
    return Previous(name)


def _options(name: str, func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    if not args or not isinstance(args[0], torch.Tensor | list | tuple | str):
        return
    if name in ACTIVATIONS or name in ("gelu", "hardtanh", "relu_", "leaky_relu_"):
        yield from activations(name, args, kwargs)
    if name in NORMS:
        yield from norms(name, func)
    if name in _LINEAR or name in NORMS:
        for other in ("relu", "gelu (erf)", "gelu (tanh)", "silu", "tanh", "relu6", "sigmoid"):

            def then(*a: Any, act: Made = ACTIVATIONS[other], **k: Any) -> Any:
                return act(func(*a, **k))

            yield Option(
                Cause("activation", f"{other} was applied where there is no activation"), then
            )
    for names, of_layers in _LAYERS:
        if name in names:
            yield from of_layers(func, args, kwargs)
    for names, of_code in (*FAMILIES, *_ATTENTION):
        if name in names:
            yield from of_code(func, args, kwargs, previous)


_LAYERS: tuple[tuple[set[str], Callable[..., Iterator[Option]]], ...] = (
    ({"conv1d", "conv2d", "conv3d"}, convolutions),
    ({"conv_transpose1d", "conv_transpose2d"}, transposed_convolutions),
    ({"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}, pools),
    ({"interpolate"}, interpolations),
    ({"pad"}, paddings),
)
_ATTENTION: tuple[tuple[set[str], Family], ...] = (
    ({"cat", "concat", "concatenate"}, attention.rotary_joins),
    ({"chunk", "split", "tensor_split"}, attention.rotary_splits),
    ({"__getitem__"}, attention.halves),
    ({"masked_fill", "masked_fill_"}, attention.masks),
    ({"where"}, attention.choices),
    ({"triu", "tril"}, attention.triangles),
    ({"scaled_dot_product_attention"}, attention.attention),
    ({"multi_head_attention_forward"}, attention.whole_attention),
    ({"embedding"}, attention.embeddings),
    ({"softmax"}, attention.softmaxes),
)
