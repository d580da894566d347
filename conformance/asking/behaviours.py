"""Asking a framework what its own classes do."""

from conformance.asking.ask import Ask, Rank
from conformance.cases.case import BehaviourQuestion
from conformance.frameworks import probes
from conformance.outcomes import Answer


def answer(ask: Ask[BehaviourQuestion], rank: Rank) -> Answer:
    """The named arrays that the probe reads off the framework, on this rank.

    Raises:
        Unsupported, NotExercised: as the probe says.
        Exception: whatever the framework raises beyond what the probe asks for.
    """
    place = probes.Place(ask.implementation.name, ask.device, rank.index, rank.size, rank.group)
    return Answer(probes.run(ask.question.probe, place, dict(ask.question.arguments)))
