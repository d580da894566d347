"""Hooks on a torch module: what its submodules are given and give, with errors and cotangents."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare.aten_model import Carry
from conformance.compare.trace import FIRST_CALL, LATER_OUTPUT, Asked, Call, Reached


@contextmanager
def aside() -> Iterator[None]:
    """What is done here is none of the model's doing."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


class Watch:
    """Hooks on every submodule.

    A tensor passes through a clone on the way out, so that its gradient is that of one call, and an
    operation in place changes nothing that was seen.
    """

    def __init__(self, root: nn.Module, carry: Carry, asked: Asked) -> None:
        self.seen: list[Call] = []
        self.cotangents: dict[int, Approximate] = {}
        self._carry, self._asked = carry, asked
        self._open: list[tuple[str, tuple[Approximate, ...]]] = []
        self._handles = []
        self.kinds = {path: type(module).__name__ for path, module in root.named_modules()}
        for path, module in root.named_modules():
            if path:
                before, after = self._hooks(path)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                self._handles.append(module.register_forward_hook(after))

    @property
    def path(self) -> str:
        """The submodule that is being called."""
        return self._open[-1][0] if self._open else ""

    def depended(self, args: Any) -> int:
        """The bits of what these arguments were made of."""
        with aside():
            bits = 0
            for x in tree_leaves(args):
                bits |= self._carry.depended(x) if isinstance(x, torch.Tensor) else 0
            return bits

    def close(self) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def _hooks(self, path: str) -> tuple[Any, Any]:
        def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
            with aside():
                tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
                self._open.append((path, tuple(kept(self._carry.at(x)) for x in tensors)))
            if self._asked.change is not None:
                return self._asked.change.given(path, args, kwargs)
            return None

        def after(module: nn.Module, _: Any, output: Any) -> Any:
            _, inputs = self._open.pop()
            first = True

            def noted(x: Any) -> Any:
                nonlocal first
                if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
                    return x
                name, first = (path if first else path + LATER_OUTPUT), False
                return self._noted(name, module, inputs, x)

            if isinstance(output, torch.Tensor | tuple | list | dict):
                return tree_map(noted, output)
            return output

        return before, after

    def _noted(
        self, path: str, module: nn.Module, inputs: tuple[Approximate, ...], x: torch.Tensor
    ) -> torch.Tensor:
        number, settings = len(self.seen), {}
        if getattr(module, "padding_idx", None) is not None:
            settings = {"padding_idx": module.padding_idx}
        momentum = getattr(module, "momentum", None)
        if momentum is not None and inputs and inputs[0].value.ndim > 1:
            shape = inputs[0].value.shape
            settings = {"momentum": momentum, "count": inputs[0].value.size // shape[1]}
        with aside():
            call = Call(
                module=path,
                type=type(module).__name__,
                inputs=inputs,
                output=kept(self._carry.at(x)),
                depends=self._carry.depended(x),
                bit=FIRST_CALL << number,
                ended=len(self._carry.values),
                settings=settings,
            )
        self.seen.append(call)
        if number == self._asked.until:
            raise Reached(call)
        copy = x.clone()
        with aside():
            self._carry.made_of(copy, FIRST_CALL << number)
            if number in self._asked.anchored_calls:
                self._carry.anchor(copy.detach(), self._asked.anchored_calls[number])
            if copy.requires_grad:
                copy.register_hook(lambda g: self._pulled(number, g))
            if self._asked.change is not None:
                self._asked.change.gave(path, copy)
        return copy

    def _pulled(self, number: int, g: torch.Tensor) -> None:
        with aside():
            self.cotangents[number] = kept(self._carry.at(g))
            if number in self._asked.anchored_cotangents:
                self._carry.anchor(g.detach(), self._asked.anchored_cotangents[number])


def kept(x: Approximate) -> Approximate:
    """A copy that nothing writes to later."""
    return Approximate(np.array(x.value), np.array(x.error))
