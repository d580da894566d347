"""What is asked of a model of any framework, and what a run of it showed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

Kind = Literal["linear", "conv", "batch_norm", "layer_norm", "group_norm"]


@dataclass(frozen=True)
class Layer:
    """What a framework's own layer says of itself.

    Attributes:
        kind: what it computes.
        roles: of each of `weight`, `bias`, `running_mean` and `running_var` that it has, the name
            in the model and the axes that give torch's form of it.
        stride, padding, dilation, groups: of a convolution; padding is (before, after) an axis.
        epsilon: of a norm. For a group norm `groups` says how many.
        axes: how many of the last axes a layer norm is over.
        momentum: of a batch norm, the share of the new statistics, as torch has it.
    """

    kind: Kind
    roles: Mapping[str, tuple[str, tuple[int, ...] | None]]
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    epsilon: float = 0.0
    axes: int = 1
    momentum: float | None = None


@dataclass(frozen=True)
class Call:
    """One call of a submodule; tensors of rank 4 and more have their channels at axis 1.

    Attributes:
        module: its path in the model.
        nth: how many calls of the module came before.
        type: its class's name.
        layer: None where the suite knows nothing of the class.
        dtype: of the output: f64, f32, f16 or bf16; the arrays here are float64 or float32.
        cotangent: of the output, and `input_cotangents` of the inputs, through this call alone;
            None where none came.
    """

    module: str
    nth: int
    type: str
    layer: Layer | None
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray
    dtype: str
    cotangent: np.ndarray | None = None
    input_cotangents: tuple[np.ndarray | None, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """What tells the call apart from others of its run."""
        return self.module, self.nth


@dataclass(frozen=True)
class Trace:
    """One run: calls in the order in which they ended, and what came out.

    `gradients` are of the parameters and `state` the buffers after the run, both by their names in
    the model and in its own form.
    """

    calls: tuple[Call, ...]
    inputs: tuple[np.ndarray, ...]
    output: np.ndarray
    dtype: str
    input_cotangents: tuple[np.ndarray | None, ...] = ()
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    state: Mapping[str, np.ndarray] = field(default_factory=dict)


class Model(Protocol):
    """A model that a factory made, and the weights that it can be given."""

    framework: str
    channels_last: bool

    def weights(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of parameters and float buffers by name, modules in the order of their calls."""

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[np.ndarray],
        cotangent: np.ndarray | None,
        *,
        training: bool,
    ) -> Trace:
        """One forward, and a backward where the output's cotangent (of channels first) is given."""


def owner(name: str) -> str:
    """The path of the module that a weight is of.

    >>> owner("blocks.0.conv.weight"), owner("params/conv/kernel"), owner("weight")
    ('blocks.0.conv', 'conv', '')
    """
    if "/" in name:  # a Flax Linen name: its collection is no module
        return "/".join(name.split("/")[1:-1])
    return name.rpartition(".")[0]


def channels_first(x: np.ndarray, *, channels_last: bool) -> np.ndarray:
    """Channels at axis 1 where there are spatial axes: (N, …, C) of rank 4 or more."""
    return np.moveaxis(x, -1, 1) if channels_last and x.ndim >= 4 else x


def as_given(x: np.ndarray, *, channels_last: bool) -> np.ndarray:
    """The inverse of `channels_first`."""
    return np.moveaxis(x, 1, -1) if channels_last and x.ndim >= 4 else x
