"""Putting a case's question to an implementation, inside the world where it lives."""

from textwrap import shorten
from typing import Any

from conformance.behaviours import ask as behaviours
from conformance.channel_shuffle import ask as channel_shuffle
from conformance.core.ask import Ask, Rank
from conformance.core.outcomes import Outcome, Unsupported
from conformance.core.questions import (
    BehaviourQuestion,
    GradientQuestion,
    ShuffleQuestion,
    VirtualQuestion,
)
from conformance.frameworks import Description, bridge
from conformance.gradient_mean import ask as gradient_mean
from conformance.gradient_mean import virtual_ask as virtual_ranks

__all__ = ["Ask", "ask", "describe", "prepare_jax", "prepare_numpy", "prepare_torch"]


def ask(payload: Ask[Any], rank: Rank) -> Outcome:
    """Answer one question here; what the implementation raises is the world's to catch.

    Raises:
        Unsupported: if the device has too little memory, among other reasons.
    """
    here = bridge(payload.implementation.framework)
    try:
        here.settle(payload.device)
        return _asked(payload, rank)
    except Exception as error:
        if not here.is_out_of_memory(error):
            raise
        words = shorten(str(error), 160, placeholder=" …")
        raise Unsupported(f"{payload.device} is out of memory: {words}") from error
    finally:
        here.release(payload.device)


def _asked(payload: Ask[Any], rank: Rank) -> Outcome:
    match payload.question:
        case ShuffleQuestion():
            return channel_shuffle.answer(payload)
        case GradientQuestion():
            return gradient_mean.answer(payload, rank)
        case VirtualQuestion():
            return virtual_ranks.answer(payload)
        case BehaviourQuestion():
            return behaviours.answer(payload, rank)
        case other:
            raise TypeError(f"no way to ask a {type(other).__name__}")


def describe(framework: str, rank: object) -> Description:
    """What the framework in this world says of itself."""
    del rank
    return bridge(framework).describe()


def prepare_torch() -> None:
    """Prepare a world for torch."""
    bridge("torch").prepare()


def prepare_jax() -> None:
    """Prepare a world for JAX."""
    bridge("jax").prepare()


def prepare_numpy() -> None:
    """Prepare a world for NumPy."""
    bridge("numpy").prepare()
