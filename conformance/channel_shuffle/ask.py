"""Asking about channel shuffle: forward is the implementation's, everything else is derived."""

from collections.abc import Callable
from textwrap import shorten
from typing import Any

import numpy as np

from conformance.core.ask import Ask, loaded
from conformance.core.dtypes import DTYPES
from conformance.core.outcomes import Answer, Unsupported
from conformance.core.questions import Layout, ShuffleQuestion
from conformance.frameworks import Bridge, Refused, bridge


def answer(ask: Ask[ShuffleQuestion]) -> Answer:
    """The named arrays that the implementation gives, channel-first, in NumPy.

    Raises:
        Unsupported, NotExercised, WrongAnswer: as the bridge says.
        Exception: whatever the implementation raises.
    """
    implementation, question = ask.implementation, ask.question
    here = bridge(implementation.framework)
    function = loaded(implementation)
    try:
        given = _observe(here, function, ask)
    except Exception as error:
        refused = here.refusal(error)
        if refused is None or _owed(ask, refused):
            raise
        words = shorten(str(error) or type(error).__name__, 120, placeholder=" …")
        what = question.dtype if refused == "dtype" else _transform_of(question)
        raise Unsupported(f"{what} is refused: {words}") from error
    return Answer(given)


def _owed(ask: Ask[ShuffleQuestion], refused: Refused) -> bool:
    """What no word of the framework excuses: f32, plain, forward and back; torch's own dtypes.

    Which dtypes torch's operator takes is documented of the CPU alone.
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
    here: Bridge, function: Callable[..., Any], ask: Ask[ShuffleQuestion]
) -> dict[str, np.ndarray]:
    question, device = ask.question, ask.device
    channels_last = ask.implementation.layout == "channels_last"
    first = 1 if question.transform == "vmapped" else 0  # axes before (N, C, *spatial)

    def given(name: str) -> Any:
        """One of the inputs as the framework's array, its channels where they are wanted."""
        values = ask.inputs[name]
        lying: Layout = question.layout if name == "input" else "contiguous"
        if channels_last and values.ndim > first + 2:
            # (N, *spatial, C) in order *is* the channels-last layout of (N, C, *spatial).
            lying = lying if lying in ("expanded", "negative") else "contiguous"
            values = np.moveaxis(values, first + 1, -1)
        return here.array(values, DTYPES[question.dtype], lying, device)

    def taken(array: Any) -> np.ndarray:
        """An answer in NumPy, its channels back at their place."""
        values = here.values(array, device)
        if channels_last and values.ndim > first + 2:
            values = np.ascontiguousarray(np.moveaxis(values, -1, first + 1))
        return values

    x = given("input")
    run = _composed(here, function, question, x)
    match question.derivative:
        case "vjp":
            y, pulled = here.vjp(run, x, given("cotangent"))
            return {"output": taken(y), "input_cotangent": taken(pulled)}
        case "jvp":
            y, pushed = here.jvp(run, x, given("tangent"))
            return {"output": taken(y), "output_tangent": taken(pushed)}
        case "double":
            y, pulled, twice = here.double(run, x, given("cotangent"), given("second"))
            return {
                "output": taken(y),
                "input_cotangent": taken(pulled),
                "cotangent_cotangent": taken(twice),
            }
        case "none":
            pass
    match question.observe:
        case "strides":
            y = run(x)
            return {"output": taken(y), "strides": np.array(here.strides(y))}
        case "effects":
            y = run(x)
            return {
                "output": taken(y),
                "shares_memory": np.array(here.shares_memory(x, y)),
                "input_after": taken(x),
            }
        case "graph":
            nodes = here.graph_nodes(lambda x: function(x, question.groups), x, "channel_shuffle")
            return {"output": taken(run(x)), "shuffle_nodes": np.array(nodes)}
        case "modules":
            evaluated, trained, entries = here.in_both_modes(run, x)
            return {
                "output": taken(evaluated),
                "output_in_training": taken(trained),
                "state_entries": np.array(entries),
            }
        case "convolutions":
            return {"output": _between_convolutions(here, run, ask, channels_last=channels_last)}
        case "values":
            return {"output": taken(run(x))}


def _composed(
    here: Bridge, function: Callable[..., Any], question: ShuffleQuestion, x: Any
) -> Callable[[Any], Any]:
    """The function of x alone: with its groups, further shuffles after it, and the transform."""
    if question.transform == "scripted":
        script = here.scripted(function)
        return lambda x: script(x, question.groups)

    def shuffled(x: Any) -> Any:
        for groups in (question.groups, *question.then):
            x = function(x, groups)
        return x

    return here.transformed(shuffled, question.transform, x)


def _between_convolutions(
    here: Bridge, run: Callable[[Any], Any], ask: Ask[ShuffleQuestion], *, channels_last: bool
) -> np.ndarray:
    dtype, groups = DTYPES[ask.question.dtype], int(ask.question.groups)
    x, first, second = (
        here.array(ask.inputs[name], dtype, "contiguous", ask.device)
        for name in ("input", "first_kernel", "second_kernel")
    )
    hidden = here.grouped_pointwise(x, first, groups)
    if channels_last:
        mixed = here.moveaxis(run(here.moveaxis(hidden, 1, -1)), -1, 1)
    else:
        mixed = run(hidden)
    return here.values(here.grouped_pointwise(mixed, second, groups), ask.device)
