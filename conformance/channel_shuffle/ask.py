"""Asks an implementation about channel shuffle: it has the forward, all else is derived from it."""

from collections.abc import Callable
from textwrap import shorten
from typing import Any

import numpy as np

from conformance.core.ask import Ask, loaded
from conformance.core.dtypes import DTYPES
from conformance.core.implementations import gradient_of
from conformance.core.outcomes import Answer, Unsupported
from conformance.core.questions import Layout, ShuffleQuestion
from conformance.frameworks import Bridge, Refused, bridge


def answer(ask: Ask[ShuffleQuestion]) -> Answer:
    """Returns the named arrays of the implementation, channel-first, in NumPy.

    Raises:
        Unsupported, NotExercised, WrongAnswer: as the bridge raises them.
        Exception: any error of the implementation.
    """
    implementation, question = ask.implementation, ask.question
    framework = bridge(implementation.framework)
    function = loaded(implementation)
    try:
        arrays = _observe(framework, function, ask)
    except Exception as error:
        refused = framework.refusal(error)
        if refused is None or _owed(ask, refused):
            raise
        words = shorten(str(error) or type(error).__name__, 120, placeholder=" …")
        refused_part = question.dtype if refused == "dtype" else _transform_of(question)
        raise Unsupported(f"{refused_part} is refused: {words}") from error
    return Answer(arrays)


def _owed(ask: Ask[ShuffleQuestion], refused: Refused) -> bool:
    """Says whether the framework must not refuse the question.

    It owes f32, plain, forward and back. torch's operator owes all its dtypes, on the CPU alone:
    its documentation names them for no other device.
    """
    question = ask.question
    if refused == "dtype":
        is_native = ask.implementation.promise == "native" and ask.device == "cpu"
        return question.dtype == "f32" or is_native
    return (
        question.dtype == "f32"
        and question.derivative in ("none", "vjp")
        and question.transform in ("plain", "eager")
    )


def _transform_of(question: ShuffleQuestion) -> str:
    if question.transform != "plain":
        return question.transform
    return question.derivative if question.derivative != "none" else question.dtype


def _observe(
    framework: Bridge, function: Callable[..., Any], ask: Ask[ShuffleQuestion]
) -> dict[str, np.ndarray]:
    question, device = ask.question, ask.device
    channels_last = ask.implementation.layout == "channels_last"
    # The axes before (N, C, *spatial).
    first = 1 if question.transform == "vmapped" else 0

    def tensor(name: str) -> Any:
        """Returns an input as the framework's array, with its channels where the code has them."""
        values = ask.inputs[name]
        layout: Layout = question.layout if name == "input" else "contiguous"
        if channels_last and values.ndim > first + 2:
            # In order, (N, *spatial, C) already is the channels-last layout of (N, C, *spatial).
            layout = layout if layout in ("expanded", "negative") else "contiguous"
            values = np.moveaxis(values, first + 1, -1)
        return framework.array(values, DTYPES[question.dtype], layout, device)

    def in_numpy(array: Any) -> np.ndarray:
        """Returns an answer in NumPy, with its channels back on axis 1."""
        values = framework.values(array, device)
        if channels_last and values.ndim > first + 2:
            values = np.ascontiguousarray(np.moveaxis(values, -1, first + 1))
        return values

    x = tensor("input")
    run = _composed(framework, function, question, x)
    match question.derivative:
        case "vjp" if (own := gradient_of(ask.implementation)) is not None:
            if question.then or question.transform not in ("plain", "eager"):
                raise Unsupported("a gradient of one's own is of one plain shuffle")
            pulled = own(x, question.groups, tensor("cotangent"))
            return {"output": in_numpy(run(x)), "input_cotangent": in_numpy(pulled)}
        case "vjp":
            y, pulled = framework.vjp(run, x, tensor("cotangent"))
            return {"output": in_numpy(y), "input_cotangent": in_numpy(pulled)}
        case "jvp":
            y, pushed = framework.jvp(run, x, tensor("tangent"))
            return {"output": in_numpy(y), "output_tangent": in_numpy(pushed)}
        case "double":
            y, pulled, twice = framework.double(run, x, tensor("cotangent"), tensor("second"))
            return {
                "output": in_numpy(y),
                "input_cotangent": in_numpy(pulled),
                "cotangent_cotangent": in_numpy(twice),
            }
        case "none":
            pass
    match question.observe:
        case "strides":
            y = run(x)
            return {"output": in_numpy(y), "strides": np.array(framework.strides(y))}
        case "effects":
            y = run(x)
            return {
                "output": in_numpy(y),
                "shares_memory": np.array(framework.shares_memory(x, y)),
                "input_after": in_numpy(x),
            }
        case "graph":
            nodes = framework.graph_nodes(
                lambda x: function(x, question.groups), x, "channel_shuffle"
            )
            return {"output": in_numpy(run(x)), "shuffle_nodes": np.array(nodes)}
        case "modules":
            evaluated, trained, entries = framework.in_both_modes(run, x)
            return {
                "output": in_numpy(evaluated),
                "output_in_training": in_numpy(trained),
                "state_entries": np.array(entries),
            }
        case "convolutions":
            return {
                "output": _between_convolutions(framework, run, ask, channels_last=channels_last)
            }
        case "values":
            return {"output": in_numpy(run(x))}


def _composed(
    framework: Bridge, function: Callable[..., Any], question: ShuffleQuestion, x: Any
) -> Callable[[Any], Any]:
    """Returns the function of x alone: with its groups, further shuffles, and the transform."""
    if question.transform == "scripted":
        script = framework.scripted(function)
        return lambda x: script(x, question.groups)

    def shuffled(x: Any) -> Any:
        for groups in (question.groups, *question.then):
            x = function(x, groups)
        return x

    return framework.transformed(shuffled, question.transform, x)


def _between_convolutions(
    framework: Bridge, run: Callable[[Any], Any], ask: Ask[ShuffleQuestion], *, channels_last: bool
) -> np.ndarray:
    dtype, groups = DTYPES[ask.question.dtype], int(ask.question.groups)
    x, first, second = (
        framework.array(ask.inputs[name], dtype, "contiguous", ask.device)
        for name in ("input", "first_kernel", "second_kernel")
    )
    hidden = framework.grouped_pointwise(x, first, groups)
    if channels_last:
        mixed = framework.moveaxis(run(framework.moveaxis(hidden, 1, -1)), -1, 1)
    else:
        mixed = run(hidden)
    return framework.values(framework.grouped_pointwise(mixed, second, groups), ask.device)
