"""The probe kit: weigh trainers that nobody can look into, by what they do to a model of ours.

Every item has a coordinate of its own in the model's parameters, and the gradient of the loss by
it is a constant. So the parameters after a step of SGD are the weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from conformance.weighing.probe_layout import Layout, layout_of
from conformance.weighing.probe_log import (
    Fed,
    Stepped,
    as_plain,
    from_plain,
    log_of,
    rank_steps,
)
from conformance.weighing.probe_trace import Trace, trace
from conformance.weighing.weights import Weights

LOUDNESS = 1024.0  # an output's derivative by its coordinate
GAIN = LOUDNESS / 2  # an item's gradient where it counts 1: its loss has the derivative 1/2
TARGET = -0.25  # of a squared error whose derivative at 0 is 1/2
LOSSES = ("cross_entropy", "mse", "next_token")
FRAMEWORKS = ("torch", "linen", "nnx")
_SYNONYMS = {
    "classification": "cross_entropy", "regression": "mse", "jax": "linen", "flax": "linen",
    "flax.linen": "linen", "flax.nnx": "nnx",
}  # fmt: skip


def probe(
    framework: str,
    *,
    items: int = 24,
    loss: str = "cross_entropy",
    lengths: Sequence[int] | None = None,
) -> "Probe":
    """Return a model, a data set and a loss by which a trainer shows what each item counts for.

    Args:
        framework: torch, linen or nnx.
        items: how many samples there are, or tokens that are predicted.
        loss: cross_entropy (a classification), mse (a regression) or next_token.
        lengths: of next_token, how many tokens of each sequence are predicted; unequal without it.

    Raises:
        ValueError: if there is no such framework or loss, or no item.

    >>> import conformance, torch
    >>> probe = conformance.probe("torch", items=6, loss="cross_entropy")
    >>> optimizer = torch.optim.SGD(probe.model.parameters(), lr=1.0)
    >>> for x, y in torch.utils.data.DataLoader(probe.dataset, batch_size=4):
    ...     probe.loss(probe.model(x), y).backward()
    >>> optimizer.step()
    >>> weights = probe.read(probe.model)
    >>> weights.formula, [str(weight) for weight in weights.fractions]
    ('1/n_k', ['1/4', '1/4', '1/4', '1/4', '1/2', '1/2'])
    """
    framework, loss = _SYNONYMS.get(framework, framework), _SYNONYMS.get(loss, loss)
    for word, known in ((framework, FRAMEWORKS), (loss, LOSSES)):
        if word not in known:
            raise ValueError(f"a probe is for one of {', '.join(known)}: {word!r} is none")
    layout = layout_of(loss, items, lengths)
    if framework == "torch":
        from conformance.weighing.torch_probe import TorchProbe

        return TorchProbe(layout, loss)
    from conformance.weighing.in_flax import FlaxProbe

    return FlaxProbe(layout, loss, framework)


class Probe:
    """A model, a data set and a loss, and what a trainer did with them.

    Attributes:
        model: for the trainer. Called with a batch's inputs it returns outputs; with labels, a dict
            with "loss" and "logits".
        dataset: of (item's number, label) pairs; of next_token, of dicts with input_ids,
            attention_mask and labels, padded to one length, with labels that the loss shifts.
        loss: of (outputs, labels), their mean.
        layout: which items a sample has.
    """

    model: Any
    dataset: Any
    loss: Any

    def __init__(self, layout: Layout, loss: str, number: int) -> None:
        self.layout, self.loss_name, self.number = layout, loss, number

    def read(self, model: Any = None, *, lr: float = 1.0) -> Weights:
        """Return what every item counted for, in all steps that were made.

        In a distributed torch script every rank calls it, and all get the same. An item that was
        never fed is none (`is_item`).

        Args:
            model: the trained one, or what wraps it; of Linen its variables.
            lr: the learning rate, where the optimizer is none of torch's.

        Raises:
            ValueError: if nothing was trained here.
        """
        return self.trace(model, lr=lr).weights

    def trace(self, model: Any = None, *, lr: float = 1.0) -> Trace:
        """Return the weights of full and of last windows, and the samples repeated or dropped."""
        records = self.records(self.model if model is None else model)
        return traced(records, self.layout, lr)

    def records(self, model: Any) -> list[dict[str, Any]]:
        """Return what every rank saw."""
        raise NotImplementedError

    @staticmethod
    def as_record(events: Sequence[Fed | Stepped], end: np.ndarray | None) -> dict[str, Any]:
        """Return what a rank saw as plain data."""
        return {"events": as_plain(events), "end": None if end is None else end.tolist()}

    def forget(self) -> None:
        """Forget what was trained so far, but for the parameters."""
        log_of(self.number).clear()


def traced(records: Sequence[dict[str, Any]], layout: Layout, lr: float = 1.0) -> Trace:
    """Return what was done, from the records of all ranks."""
    ends = [None if record["end"] is None else np.array(record["end"], float) for record in records]
    logs = [
        rank_steps(from_plain(record["events"]), end)
        for record, end in zip(records, ends, strict=True)
    ]
    return trace(logs, layout, GAIN, lr, ends)
