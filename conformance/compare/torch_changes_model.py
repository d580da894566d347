"""Changes that ports are known to make, tried on a torch original at one of the functions it calls.

A run of the original with a change asks each function that is called, in order, whether it is the
one to change. What the function is then made to do is a function of its own arguments.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from conformance.compare import torch_attention_changes_model as _attention  # noqa: F401  These
from conformance.compare import torch_code_changes_model as _code  # noqa: F401  three register
from conformance.compare import torch_layer_changes_model as _layers  # noqa: F401  what is tried.
from conformance.compare.changes import Option, Site, option
from conformance.compare.torch_called_model import Called, Previous, options_of
from conformance.compare.trace import INPUT


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
        if "rms" not in self._watch.kinds.get(path, "").lower() or not args:
            return None
        words = "the mean is taken off, as in a layer norm"
        centred = option("rms-norm-centred", words, lambda: args[0] - args[0].mean(-1, True))
        number, self._number = self._number, self._number + 1
        self.sites.append(Site(number, path, len(self._watch.seen), (centred,), "a module", 0))
        is_chosen = self.chosen.get(number) == centred.key
        return ((centred.made(), *args[1:]), kwargs) if is_chosen else None

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function's result, changed where it was chosen."""
        call = Called(func, args, kwargs, self._previous)
        number, self._number = self._number, self._number + 1
        key = self.chosen.get(number)
        made: Any = call
        if self._records or key is not None:
            options = self._options(call)
            if options:
                since, depends = len(self._watch.seen), self._watch.depended(args)
                site = Site(number, self._watch.path, since, options, call.name, depends)
                self.sites.append(site)
            made = next((option.made for option in options if option.key == key), call)
        result = made()
        self._previous = _after(call, result)
        return result

    def _options(self, call: Called) -> tuple[Option, ...]:
        with _disable_current_modes():
            options = tuple(options_of(call))
        if self._watch.depended(call.args) & INPUT:
            return options
        # Heads are of what the model is given, not of tables.
        return tuple(option for option in options if option.cause.name != "heads-split")


def _after(call: Called, result: Any) -> Previous:
    """Remembers the reshape that splits an axis, for the one that merges it again."""
    name = call.name
    if name in ("view", "reshape") and isinstance(call.x, torch.Tensor):
        return Previous(name, call.x, tuple(result.shape))
    if name in ("transpose", "permute", "contiguous", "swapaxes"):
        return replace(call.previous, name=name)
    if name in ("size", "__get__", "dim", "stride", "") or not isinstance(result, torch.Tensor):
        return call.previous
    return Previous(name)
