"""Putting a case's question to an implementation, inside the world where it lives."""

from typing import Any

from conformance.asking import behaviours, channel_shuffle, gradient_mean, virtual_ranks
from conformance.asking.ask import Ask, Rank
from conformance.cases.case import (
    BehaviourQuestion,
    GradientQuestion,
    ShuffleQuestion,
    VirtualQuestion,
)
from conformance.frameworks import Description, bridge
from conformance.outcomes import Outcome

__all__ = ["Ask", "ask", "describe", "prepare_jax", "prepare_numpy", "prepare_torch"]


def ask(payload: Ask[Any], rank: Rank) -> Outcome:
    """Answer one question here; what the implementation raises is the world's to catch."""
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
