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
    "leaky_relu leaky_relu_": "input negative_slope",
    "elu elu_ celu": "input alpha",
    "softplus": "input beta threshold",
    "topk": "input k dim",
    "softmax log_softmax": "input dim",
    "normalize": "input p dim eps",
    "pairwise_distance": "x1 x2 p eps",
    "cosine_similarity": "x1 x2 dim eps",
    "pixel_shuffle": "input upscale_factor",
    "pixel_unshuffle": "input downscale_factor",
    "var std var_mean std_mean": "input dim",
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
SUMS = ("add", "__add__", "__radd__", "__iadd__", "add_")
_NAMES_OF = {name: args.split() for names, args in _NAMES.items() for name in names.split()}


@dataclass(frozen=True)
class Previous:
    """What came before a call: the function, and the reshape that split an axis.

    Attributes:
        name: of the last function that gave a tensor.
        split: what was split, until it is merged again.
        shape: into what.
        terms: of a sum, as they were before it.
    """

    name: str = ""
    split: Any = None
    shape: tuple[int, ...] = ()
    terms: tuple[Any, ...] = ()


@dataclass
class Around:
    """What a run has seen so far.

    Attributes:
        tensors: what modules were given and gave, the last ones, each with words for it.
        results: the last activations, each with what came, or a copy of it.
        weights: the last parameter of each shape.
        late: a call that was put off, until it is made.
    """

    tensors: list[tuple[str, Any]] = field(default_factory=list)
    results: list[tuple["Called", Any]] = field(default_factory=list)
    weights: dict[tuple[int, ...], Any] = field(default_factory=dict)
    late: "Called | None" = None

    def noted(self, words: str, x: Any) -> None:
        """Remembers a tensor, and forgets the first of many."""
        if isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim > 1:
            others = [row for row in self.tensors if row[1] is not x]
            self.tensors = [*others[-11:], (words, x)]

    def made_by(self, x: Any) -> "Called | None":
        """The activation that gave a tensor."""
        return next((call for call, result in self.results if result is x), None)

    def like(self, x: Any) -> list[tuple[str, Any]]:
        """Other tensors of a tensor's shape, the last first."""
        return [(words, t) for words, t in reversed(self.tensors)
                if t is not x and t.shape == x.shape]  # fmt: skip


@dataclass(frozen=True)
class Called:
    """A function that a model calls, with its arguments; called itself, it does what that does."""

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    previous: Previous = field(default_factory=Previous)
    around: Around = field(default_factory=Around)

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
    if call.args and isinstance(call.x, torch.Tensor | list | tuple | str | int | float):
        for family in _FAMILIES.get(call.name, ()):
            yield from family(call)


def every(x: Any, parts: int, axis: int) -> tuple[Any, ...]:
    """Parts of an axis, each with every so-manyth of its entries."""
    moved = x.movedim(axis, 0)
    return tuple(moved[i::parts].movedim(0, axis) for i in range(parts))


def sizes(value: Any, n: int) -> list[int]:
    """A number for each of n axes."""
    return [value] * n if isinstance(value, int) else [int(v) for v in value]
