"""Asking for the average over thousands of ranks that one process holds on one device."""

import importlib
from typing import Any

from conformance.core.ask import Ask, loaded
from conformance.core.dtypes import DTYPES
from conformance.core.outcomes import Answer
from conformance.core.questions import VirtualQuestion
from conformance.gradient_mean.ask import batch_of, padded_shards


def answer(ask: Ask[VirtualQuestion]) -> Answer:
    """The gradients that the implementation gives, in NumPy.

    torch is handed whole batches, whose consecutive samples are a rank's, and JAX and NumPy are
    handed a leading axis of W; all of them the device W times.

    Raises:
        Unsupported, WrongAnswer: as the framework's part says.
        Exception: whatever the implementation raises.
    """
    implementation, question = ask.implementation, ask.question.model
    here: Any = importlib.import_module(
        f"conformance.frameworks.{implementation.framework}_gradients"
    )
    batches = [batch_of(question, ask.inputs, k) for k in range(question.micro_batches)]
    if implementation.framework != "torch":
        carrier = DTYPES[question.dtype].carrier
        batches = [
            padded_shards(batch, shards, carrier)
            for batch, shards in zip(batches, question.shards, strict=True)
        ]
    start = {name: array for name, array in ask.inputs.items() if name.startswith("parameter/")}
    given: Answer = here.virtual(loaded(implementation), question, start, batches, ask.device)
    return given
