"""Asking a framework what its own classes do."""

from conformance.behaviours import probe as probes
from conformance.core.ask import Ask
from conformance.core.outcomes import Answer
from conformance.core.questions import BehaviourQuestion
from conformance.core.rank import Rank


def answer(ask: Ask[BehaviourQuestion], rank: Rank) -> Answer:
    """The named arrays that the probe reads off the framework, on this rank.

    Raises:
        Unsupported, NotExercised: as the probe says.
        Exception: whatever the framework raises beyond what the probe asks for.
    """
    place = probes.Place(ask.implementation.name, ask.device, rank.index, rank.size, rank.group)
    return Answer(probes.run(ask.question.probe, place, dict(ask.question.arguments)))
