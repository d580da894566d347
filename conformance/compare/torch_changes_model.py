"""Changes that ports are known to make, tried on a torch original at one of the functions it calls.

A run of the original with a change asks each function that is called, in order, whether it is the
one to change. What the function is then made to do is a function of its own arguments.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from conformance.compare import torch_attention_changes_model as _attention  # noqa: F401  These
from conformance.compare import torch_code_changes_model as _code  # noqa: F401  all register
from conformance.compare import torch_layer_changes_model as _layers  # noqa: F401  what is tried.
from conformance.compare import torch_order_changes_model as _order
from conformance.compare import torch_recurrent_changes_model as _recurrent  # noqa: F401
from conformance.compare import torch_resize_changes_model as _resizes  # noqa: F401
from conformance.compare import torch_shape_changes_model as _shapes  # noqa: F401
from conformance.compare.changes import Option, Site
from conformance.compare.torch_called_model import SUMS, Around, Called, Previous, options_of
from conformance.compare.torch_layer_changes_model import ACTIVATION_CALLS
from conformance.compare.torch_watch_model import aside
from conformance.compare.trace import INPUT

_PASSING = ("size", "__get__", "dim", "stride", "", "clone")


class Change:
    """Asked of every function that is called: which of them to change, and into what."""

    def __init__(self, chosen: Mapping[int, tuple[str, str]], *, records: bool = False) -> None:
        """Makes the changes that are chosen; where it records, it notes what could be changed."""
        self.sites: list[Site] = []
        self._records, self._number = records, 0
        self.chosen = dict(chosen or {})
        self._watch: Any = None
        self._previous, self._around = Previous(), Around()

    def begin(self, watch: Any) -> None:
        """A run begins; `watch` knows which submodule is being called."""
        self._watch, self._previous, self._around = watch, Previous(), Around()
        self.sites, self._number = [], 0

    def given(self, path: str, args: Any, kwargs: Any) -> Any:
        """What a submodule is given instead; None where that is what it was given."""
        call = Called(lambda *others: (others, kwargs), args, kwargs, around=self._around)
        number, self._number = self._number, self._number + 1
        key = self.chosen.get(number)
        others = None
        with aside():
            if self._records or key is not None:
                options = tuple(_order.inputs(call, self._watch.kinds.get(path, "")))
                others = next((option.made for option in options if option.key == key), None)
                self._noted(number, path, options, "a module", args)
            for x in args:
                self._around.noted(f"what {path} is given", x)
        return None if others is None else others()

    def gave(self, path: str, x: Any) -> None:
        """What a submodule gave."""
        self._around.noted(f"what {path} gives", x)

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function's result, changed where it was chosen."""
        call = Called(func, args, kwargs, self._previous, self._around)
        number, self._number = self._number, self._number + 1
        key = self.chosen.get(number)
        made: Any = call
        if self._records or key is not None:
            options = self._options(call)
            self._noted(number, self._watch.path, options, call.name, args)
            made = next((option.made for option in options if option.key == key), call)
        terms = _terms(call)
        result = made()
        self._previous = _after(call, result, terms)
        source = self._around.made_by(call.x) if call.name == "clone" else call
        if source is not None and source.name in ACTIVATION_CALLS:
            self._around.results = [*self._around.results[-5:], (source, result)]
        self._around.weights |= {tuple(x.shape): x for x in args if isinstance(x, nn.Parameter)}
        return result

    def _noted(
        self, number: int, path: str, options: tuple[Option, ...], name: str, args: Any
    ) -> None:
        if options:
            since, depends = len(self._watch.seen), self._watch.depended(args)
            self.sites.append(Site(number, path, since, options, name, depends))

    def _options(self, call: Called) -> tuple[Option, ...]:
        with _disable_current_modes():
            options = tuple(options_of(call))
        if self._watch.depended(call.args) & INPUT:
            return options
        # Heads are of what the model is given, not of tables; so is what is rotated. A table whose
        # axes are exchanged, as of relative positions, has other entries for some other reason.
        of_inputs = ("heads-split", "rotary-sign", "axes-not-swapped")
        return tuple(option for option in options if option.cause.name not in of_inputs)


def _terms(call: Called) -> tuple[Any, ...]:
    """What is added, before it is written to."""
    if call.name not in SUMS or len(call.args) < 2:
        return ()
    first, second = call.args[:2]
    if not isinstance(first, torch.Tensor):
        return ()
    return (first.clone() if call.name in ("__iadd__", "add_") else first), second


def _after(call: Called, result: Any, terms: tuple[Any, ...]) -> Previous:
    """Remembers the reshape that splits an axis, for the one that merges it again."""
    name = call.name
    if name in ("view", "reshape") and isinstance(call.x, torch.Tensor):
        return Previous(name, call.x, tuple(result.shape))
    if name in ("transpose", "permute", "contiguous", "swapaxes"):
        return replace(call.previous, name=name)
    if name in _PASSING or not isinstance(result, torch.Tensor):
        return call.previous
    return Previous(name, terms=terms)
