"""Asks a framework what its own classes do."""

from conformance.behaviours import probe as probes
from conformance.core.ask import Ask
from conformance.core.outcomes import Answer
from conformance.core.questions import BehaviourQuestion
from conformance.core.rank import Rank


def answer(ask: Ask[BehaviourQuestion], rank: Rank) -> Answer:
    """Returns the named arrays of the probe, on this rank.

    Raises:
        Unsupported, NotExercised: as the probe raises them.
        Exception: any error of the framework that the probe does not expect.
    """
    place = probes.Place(ask.implementation.name, ask.device, rank.index, rank.size, rank.group)
    return Answer(probes.run(ask.question.probe, place, dict(ask.question.arguments)))
