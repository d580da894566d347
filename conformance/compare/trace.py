"""What is asked of a model of any framework, and what a run of it showed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from conformance.arithmetic.running import Approximate

SEED, INPUT = 1, 2  # The first two bits of what a value depends on; module calls have the others.
FIRST_CALL = 4
NEVER = 99  # The rank from which on channels come last, where they never do.
LATER_OUTPUT = " (a later output)"  # After a module's path, but for the first that it gives.
RANDOM = "a random draw"  # In the place of the operation that has no rule.


@dataclass(frozen=True)
class Call:
    """One call of a submodule.

    Attributes:
        module: its path in the model.
        type: its class's name.
        inputs, output: tensors in the model's own layout, with their errors.
        cotangent: of the output, through this call alone; None where none came.
        depends: the bits of the calls, and of the inputs, that the output was made of.
        bit: the call's own bit in the `depends` of what came later.
        ended: how many values had been made when the call ended.
        settings: of a batch norm its momentum and the count of a batch, of an embedding the row
            that torch keeps for padding.
    """

    module: str
    type: str
    inputs: tuple[Approximate, ...]
    output: Approximate
    depends: int
    bit: int
    ended: int
    cotangent: Approximate | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """A value on the way, and the operation that made it."""

    made_by: str
    at: Approximate
    backward: bool


@dataclass(frozen=True)
class Trace:
    """One run: everything that came out, and everything on the way.

    Attributes:
        calls: of submodules, in the order in which they ended.
        outputs: by their path in what the model returned.
        gradients: of the parameters, by their names in the model and in its own form.
        input_gradients: of each floating input; None where there is none.
        state: running statistics after the run.
        values: on the way, forward and backward.
        without_rule: of how many results the error is unknown, by the operation that has no rule.
        unsure: how many comparisons could have turned out either way, by operation.
        narrows: whether something was rounded to bf16 or f16.
        silenced: how many dropouts were left out.
        idle: how many functions that clip have a bound that no value reached.
    """

    calls: tuple[Call, ...]
    outputs: Mapping[str, Approximate]
    gradients: Mapping[str, Approximate] = field(default_factory=dict)
    input_gradients: tuple[Approximate | None, ...] = ()
    state: Mapping[str, Approximate] = field(default_factory=dict)
    values: tuple[Value, ...] = ()
    without_rule: Mapping[str, int] = field(default_factory=dict)
    unsure: Mapping[str, int] = field(default_factory=dict)
    narrows: bool = False
    silenced: int = 0
    idle: int = 0


class Reached(Exception):  # noqa: N818  It ends a run that went well.
    """The call until which a run was asked for has ended."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.module)
        self.call = call


@dataclass(frozen=True)
class Asked:
    """How a model is to be run.

    Attributes:
        weights: by name, in the model's own form, all float64.
        inputs: positional ones by number, others by name, channels at axis 1.
        seeds: cotangents of the outputs by path, channels at axis 1; None: no backward.
        training: whether it trains.
        charged: whether a cast to a narrow type is charged as an error.
        change: for a search for causes, what to do otherwise; the framework's own affair.
        keeps_values: whether the values on the way are kept.
        anchors: errors that values on the way get by their number, in the place of those carried;
            `anchored_calls` and `anchored_cotangents` do so by the number of a call.
        until: the number of the call with which the run ends, by raising `Reached`.
    """

    weights: Mapping[str, np.ndarray]
    inputs: Mapping[int | str, np.ndarray]
    seeds: Mapping[str, np.ndarray] | None
    training: bool
    charged: bool = False
    change: Any = None
    keeps_values: bool = True
    anchors: Mapping[int, float] = field(default_factory=dict)
    anchored_calls: Mapping[int, float] = field(default_factory=dict)
    anchored_cotangents: Mapping[int, float] = field(default_factory=dict)
    until: int | None = None


@dataclass(frozen=True)
class Plain:
    """A run as it is, with nothing carried.

    Attributes:
        calls: of each submodule's call, in the order in which they ended, its path and what came.
        outputs: by their path in what the model returned.
        narrow: names of types narrower than float32 that weights or numbers on the way have.
    """

    calls: tuple[tuple[str, np.ndarray], ...]
    outputs: Mapping[str, np.ndarray]
    narrow: frozenset[str]


class Model(Protocol):
    """A model that a factory made, and the weights that it can be given.

    Attributes:
        channels_from, outputs_from: the rank from which on its inputs, and its outputs, have their
            channels last.
    """

    framework: str
    channels_from: int
    outputs_from: int

    def weights(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of parameters and running statistics by name, in the order of their calls."""

    def vocabulary(self) -> int | None:
        """The rows of its smallest table of embeddings; None where it has none."""

    def shapes(
        self, inputs: Mapping[int | str, np.ndarray], *, training: bool
    ) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the outputs by path, channels at axis 1; runs the model once, plainly."""

    def laid(self, channels_from: int, outputs_from: int) -> "Model":
        """The same model with its channels last from these ranks on."""

    def change(self, chosen: Mapping[int, tuple[str, str]], *, records: bool = False) -> Any:
        """What `Asked.change` may be: by number the functions to change, and how.

        Where it records, its `sites` tell after a run what could be changed.
        """

    def run(self, asked: Asked) -> Trace:
        """One forward, and a backward where seeds are given, with errors carried."""

    def plain(self, asked: Asked) -> Plain:
        """One forward in the types that the model has; after it `in_float32` may be called."""

    def in_float32(self) -> "Model":
        """The same model, carried in float64 with the errors of a run in float32."""


def owner(name: str) -> str:
    """The path of the module that a weight is of.

    >>> owner("blocks.0.conv.weight"), owner("params/conv/kernel"), owner("weight")
    ('blocks.0.conv', 'conv', '')
    """
    if "/" in name:  # a Flax Linen name: its collection is no module
        return "/".join(name.split("/")[1:-1])
    return name.rpartition(".")[0]


def channels_first(x: np.ndarray, channels_from: int) -> np.ndarray:
    """Channels at axis 1: (N, …, C) of this rank or more has them last."""
    return np.moveaxis(x, -1, 1) if x.ndim >= channels_from else x


def as_given(x: np.ndarray, channels_from: int) -> np.ndarray:
    """The way back."""
    return np.moveaxis(x, 1, -1) if x.ndim >= channels_from else x


def flattened(output: Any, is_leaf: Any, path: str = "output") -> dict[str, Any]:
    """The arrays of a nest of tuples, lists, dicts and dataclasses, by their paths.

    A complex array is two real ones.

    >>> flattened((1, {"a": 2, "b": None}), lambda x: isinstance(x, int))
    {'output[0]': 1, "output[1]['a']": 2}
    """
    if output is None:
        return {}
    if is_leaf(output) and "complex" in str(getattr(output, "dtype", "")):
        return {f"{path}.real": output.real, f"{path}.imag": output.imag}
    if is_leaf(output):
        return {path: output}
    if isinstance(output, Mapping):
        parts: Sequence[tuple[str, Any]] = [(f"[{k!r}]", v) for k, v in output.items()]
    elif isinstance(output, list | tuple):
        parts = [(f"[{i}]", v) for i, v in enumerate(output)]
    elif hasattr(output, "__dataclass_fields__"):
        parts = [(f"[{k!r}]", getattr(output, k)) for k in output.__dataclass_fields__]
    else:
        raise TypeError(f"{path} is {type(output).__name__}, which is no array")
    return {k: v for name, x in parts for k, v in flattened(x, is_leaf, path + name).items()}
