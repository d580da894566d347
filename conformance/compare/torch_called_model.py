"""One call of a torch function, by the names of its arguments, and what may be done instead."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch

from conformance.compare.changes import Option

# Of functions the names of their arguments, in order.
_NAMES = {
    "conv1d conv2d conv3d": "input weight bias stride padding dilation groups",
    "conv_transpose1d conv_transpose2d conv_transpose3d":
        "input weight bias stride padding output_padding groups dilation",
    "max_pool1d max_pool2d": "input kernel_size stride padding dilation ceil_mode",
    "avg_pool1d avg_pool2d": "input kernel_size stride padding ceil_mode count_include_pad",
    "layer_norm": "input normalized_shape weight bias eps",
    "rms_norm": "input normalized_shape weight eps",
    "group_norm": "input num_groups weight bias eps",
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "instance_norm": "input running_mean running_var weight bias use_input_stats momentum eps",
    "interpolate": "input size scale_factor mode align_corners",
    "pad": "input pad mode value",
    "gelu": "input approximate",
    "scaled_dot_product_attention": "query key value attn_mask dropout_p is_causal scale",
    "embedding": "input weight",
    "masked_fill masked_fill_": "input mask value",
    "triu tril": "input diagonal",
    "roll": "input shifts dims",
    "cat concat concatenate": "tensors dim",
    "chunk split tensor_split": "input sizes dim",
    "repeat_interleave": "input repeats dim",
    "channel_shuffle native_channel_shuffle": "input groups",
}  # fmt: skip
_NAMES_OF = {name: args.split() for names, args in _NAMES.items() for name in names.split()}


@dataclass(frozen=True)
class Previous:
    """What came before a call: the function, and the reshape that split an axis.

    Attributes:
        name: of the last function that gave a tensor.
        split: what was split, until it is merged again.
        shape: into what.
    """

    name: str = ""
    split: Any = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Called:
    """A function that a model calls, with its arguments; called itself, it does what that does."""

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    previous: Previous = field(default_factory=Previous)

    @property
    def name(self) -> str:
        """Of the function."""
        return getattr(self.func, "__name__", "")

    @property
    def x(self) -> Any:
        """The first argument."""
        return self.args[0]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """By name, of a function whose names are known."""
        places = _NAMES_OF.get(self.name, ())
        return {**dict(zip(places, self.args, strict=False)), **self.kwargs}

    def get(self, name: str, default: Any = None) -> Any:
        """An argument by its name."""
        value = self.arguments.get(name)
        return default if value is None else value

    def __call__(self, **others: Any) -> Any:
        """The result, perhaps with other arguments."""
        if not others:
            return self.func(*self.args, **self.kwargs)
        x, *rest = {**self.arguments, **others}.items()  # A method takes its first by place.
        return self.func(x[1], **dict(rest))

    def again(self, **others: Any) -> Callable[[], Any]:
        """The same call with other arguments, to be made later."""
        return partial(self, **others)

    def on(self, x: Any) -> Callable[[], Any]:
        """The same call with another first argument, to be made later."""
        return partial(self.func, x, *self.args[1:], **self.kwargs)

    def left_out(self, x: Any = None) -> Callable[[], Any]:
        """What goes in comes out: the first argument, or another one."""
        x = self.x if x is None else x
        return lambda: x * 1.0


Family = Callable[[Called], Iterator[Option]]
_FAMILIES: dict[str, list[Family]] = defaultdict(list)


def changes(*names: str) -> Callable[[Family], Family]:
    """Registers what may be done in the place of these functions."""

    def registered(family: Family) -> Family:
        for name in names:
            _FAMILIES[name].append(family)
        return family

    return registered


def options_of(call: Called) -> Iterator[Option]:
    """Everything that may be done in the place of a call, without arguments."""
    if call.args and isinstance(call.x, torch.Tensor | list | tuple | str):
        for family in _FAMILIES.get(call.name, ()):
            yield from family(call)


def sizes(value: Any, n: int) -> list[int]:
    """A number for each of n axes."""
    return [value] * n if isinstance(value, int) else [int(v) for v in value]
