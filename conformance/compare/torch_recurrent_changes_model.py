"""Changes of a recurrent layer or cell: its gates, its reset, the order of its sequence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from conformance.compare.changes import Option, option
from conformance.compare.torch_called_model import Called, changes


@dataclass(frozen=True)
class How:
    """How a cell steps and a layer runs; as torch has it where nothing is said.

    Attributes:
        gate: the function of the gates.
        act: of the candidate, and of an LSTM's state where it comes out.
        forget: what is added to an LSTM's forget gate.
        resets_first: whether a GRU resets the state before its product.
        keeps_new: whether a GRU's update gate is the share of the new state.
        turns: whether the way back is turned round before it is joined.
        axis: of the sequence; None: as the call says.
    """

    gate: Callable[[Any], Any] = torch.sigmoid
    act: Callable[[Any], Any] = torch.tanh
    forget: float = 0.0
    resets_first: bool = False
    keeps_new: bool = False
    turns: bool = True
    axis: int | None = None


def _stepped(kind: str, how: How, x: Any, state: tuple[Any, ...], w: Sequence[Any]) -> Any:
    """One step; `w` holds the kernels of input and state, then both biases, where there are any."""
    b_in, b_state = w[2:4] if len(w) > 2 else (None, None)
    a, b = F.linear(x, w[0], b_in), F.linear(state[0], w[1], b_state)
    if kind == "lstm":
        i, f, g, o = (a + b).chunk(4, -1)
        c = how.gate(f + how.forget) * state[1] + how.gate(i) * how.act(g)
        return how.gate(o) * how.act(c), c
    if kind != "gru":
        return (how.act(a + b),)
    (r_a, z_a, n_a), (r_b, z_b, n_b) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = how.gate(r_a + r_b), how.gate(z_a + z_b)
    if how.resets_first:
        rows = w[1].shape[0] // 3 * 2
        n_b = F.linear(r * state[0], w[1][rows:], None if b_state is None else b_state[rows:])
        r = torch.ones_like(r)
    new, z = how.act(n_a + r * n_b), 1 - z if how.keeps_new else z
    return ((1 - z) * new + z * state[0],)


_GATES: dict[str, Callable[[Any], Any]] = {
    "hard sigmoids": F.hardsigmoid, "tanh": torch.tanh,
    "Keras' hard sigmoids": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}  # fmt: skip
_ACTS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "nothing": lambda x: x,
}  # fmt: skip


def _hows(kind: str, own: How) -> Iterator[tuple[str, str, How]]:
    """The name of a cause, what is done, and how."""
    for words, function in _GATES.items() if kind != "rnn" else ():
        yield "activation", f"its gates are {words}, not sigmoids", replace(own, gate=function)
    for name, act in _ACTS.items():
        if act is not own.act:
            yield "activation", f"its states come by {name}", replace(own, act=act)
    if kind == "lstm":
        yield "forget-bias", "1 is added to its forget gate", replace(own, forget=1.0)
    elif kind == "gru":
        words = "it resets the state before the product, not after"
        yield "reset-gate", words, replace(own, resets_first=True)
        words = "its update gate is the share of the new state, not of the old"
        yield "gate-order", words, replace(own, keeps_new=True)


def _kind(call: Called) -> tuple[str, How]:
    name = call.name.removesuffix("_cell")
    act = torch.relu if name == "rnn_relu" else torch.tanh
    return name.partition("_")[0], How(act=act)


@changes("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def cells(call: Called) -> Iterator[Option]:
    """A cell with another gate, another activation, another order."""
    x, state, *weights = call.args
    kind, own = _kind(call)
    states = tuple(state) if isinstance(state, tuple | list) else (state,)

    def made(how: How) -> Any:
        new = _stepped(kind, how, x, states, [w for w in weights if w is not None])
        return new if kind == "lstm" else new[0]

    for name, words, how in _hows(kind, own):
        yield option(name, words, partial(made, how))


@changes("lstm", "gru", "rnn_tanh", "rnn_relu")
def layers(call: Called) -> Iterator[Option]:
    """The same of a whole layer, and sequences in another order."""
    if not isinstance(call.args[3], bool):  # A packed sequence: its second argument are lengths.
        return
    kind, own = _kind(call)
    for name, words, how in _hows(kind, own):
        yield option(name, words, partial(_run, call, kind, how))
    axis = 1 if call.args[8] else 0
    if call.x.ndim == 3:
        words = f"it runs over axis {1 - axis} where axis {axis} is the sequence"
        yield option(
            "sequence-order", words, partial(_run, call, kind, replace(own, axis=1 - axis))
        )
    if call.args[7]:
        words = "what the way back gives is not turned round before it is joined"
        yield option("sequence-order", words, partial(_run, call, kind, replace(own, turns=False)))
        yield option("concatenation-order", "the way back comes first", lambda: _exchanged(call))
    else:
        words = "it runs from the end to the beginning"
        made = partial(_reversed, call, axis)
        yield option("sequence-order", words, lambda: made(turns=True))
        yield option("sequence-order", words + ", and what comes is not turned back",
                     lambda: made(turns=False))  # fmt: skip


def _exchanged(call: Called) -> Any:
    out, *states = call()
    return torch.cat(out.chunk(2, -1)[::-1], -1), *states


def _reversed(call: Called, axis: int, *, turns: bool) -> Any:
    out, *states = call.on(call.x.flip(axis))()
    return (out.flip(axis) if turns else out), *states


def _run(call: Called, kind: str, how: How) -> Any:
    """All layers, step by step."""
    x, state, weights, biased, count, _, _, both, first = call.args
    axis = (1 if first else 0) if how.axis is None else how.axis
    x = x.movedim(axis, 0)
    states = [*state] if isinstance(state, tuple | list) else [state]
    states = [s if s.shape[1] == x.shape[1] else s.new_zeros(s.shape[0], x.shape[1], s.shape[2])
              for s in states]  # fmt: skip
    size, ways, ends = 4 if biased else 2, 2 if both else 1, []
    for layer in range(count):
        outs = []
        for way in range(ways):
            at = layer * ways + way
            held = tuple(s[at] for s in states)
            w, steps = weights[at * size : (at + 1) * size], []
            for t in range(x.shape[0]):
                held = _stepped(kind, how, x[-1 - t if way else t], held, w)
                steps.append(held[0])
            steps = steps[::-1] if way and how.turns else steps
            outs.append(torch.stack(steps))
            ends.append(held)
        x = torch.cat(outs, -1)
    last = tuple(torch.stack(rows) for rows in zip(*ends, strict=True))
    return x.movedim(0, axis), *last
