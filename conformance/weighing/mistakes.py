"""The mistakes that weights show, by name: what was done, and what to write instead.

A name that the suite's catalogue has, too, has the catalogue's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_OWN: dict[str, tuple[str, str]] = {
    "mean-of-means": (
        "the ranks' own means are averaged, however many items each has",
        (
            "Sum the losses of the items, add up the count over all ranks before the backward "
            "pass, and divide by that; where DDP averages over ranks, multiply by W."
        ),
    ),
    "mean-of-micro-means": (
        "the micro-batches' own means are averaged, however many items each has",
        (
            "Count the items of all micro-batches of the step first; divide each summed loss by "
            "that count, not by K."
        ),
    ),
    "local-count": (
        "every rank divides by its own count of items",
        "All-reduce the count over the ranks before dividing.",
    ),
    "sample-share-for-token-share": (
        "a mean over tokens is weighed by the micro-batch's share of the samples",
        "Weigh it by its share of the tokens, or sum over tokens and divide by the step's count.",
    ),
    "other-windows-count": (
        "the count of items is that of another window",
        "Count the items of the micro-batches that are backpropagated before this step.",
    ),
    "shifted-labels-counted": (
        "labels are counted before the model shifts them: one more for each sequence",
        "Count labels[:, 1:], those that the loss is taken of.",
    ),
    "padding-counted": (
        "padding is counted among the items",
        "Divide by the number of labels that are not masked.",
    ),
    "world-left-in": (
        "the loss is multiplied by W to undo a division over ranks that nobody makes",
        (
            "Multiply by W only where gradients are averaged over ranks and the loss is divided by "
            "the count of all ranks."
        ),
    ),
    "micro-batches-left-in": (
        "the loss is multiplied by K to undo a division over micro-batches that nobody makes",
        "Leave out the factor K: gradients of micro-batches add up.",
    ),
    "short-window-divided-by-k": (
        "a window of fewer micro-batches is divided by the number that a full one has",
        "Divide by the number of micro-batches that the window holds.",
    ),
    "synchronised-too-early": (
        "an early micro-batch is averaged over the ranks, and later ones stay each rank's own",
        "Only the last micro-batch of a window belongs outside no_sync().",
    ),
    "stale-gradient": (
        "what was in .grad before the window counts as well",
        "Call optimizer.zero_grad() after each step, or before the first backward pass.",
    ),
    "moved-after-wrapping": (
        "the optimizer holds other tensors than those that get gradients",
        "Move or replace the model's parameters before wrapping it and making the optimizer.",
    ),
    "one-count-for-all-terms": (
        "a term of the loss is divided by the count of another term's items",
        "Give each term the count of its own items.",
    ),
    "partly-synchronised": (
        "some parameters hold each rank's own gradient",
        (
            "See that all parameters take part in every forward pass of the wrapper "
            "(find_unused_parameters), and that no one is left out of the all-reduce."
        ),
    ),
    "clipped-before-averaging": (
        "gradients are clipped before they are averaged, or before all micro-batches are in",
        "Clip once, after the last backward pass and the all-reduce, before the step.",
    ),
    "clipped-by-another-norm": (
        "the norm that the clip goes by is not the gradient's",
        "Unscale before clipping; take the norm once over all shards, and not over replicas.",
    ),
    "clipped-unasked": (
        "gradients are clipped to a norm that is the trainer's own choice",
        "Tell the trainer the norm to clip to, or that it must not clip.",
    ),
    "moved-between-steps": (
        "parameters change outside of the optimizer's steps, as where ranks average them",
        "Weigh without it: what an item counts for is known of gradients alone.",
    ),
    "loss-scale-left-in": (
        "the optimizer's gradient still has the loss scale in it",
        "Call scaler.step(optimizer), or scaler.unscale_(optimizer) before the step.",
    ),
    "counted-twice": (
        "a micro-batch counts twice what the others count",
        "See whether a batch is backpropagated, or reduced, twice.",
    ),
    "counts-nothing": (
        "items of which losses are backpropagated count nothing in the step",
        (
            "Keep gradients until the step, and reduce them before it: with fully_shard, "
            "set_requires_gradient_sync(True) belongs before the last forward pass."
        ),
    ),
    "no-weighted-sum": (
        "the gradient is no weighted sum of what the backward passes gave",
        (
            "Look for what writes to .grad between backward and step (noise or a decay of weights: "
            "weigh without it), and for reductions of losses that couple samples."
        ),
    ),
}


@dataclass(frozen=True)
class Words:
    """What was done, and what to write instead."""

    done: str
    advice: str


@cache
def words(name: str) -> Words:
    """Return a mistake's words; of a name that nobody knows they are empty."""
    from conformance.gradient_mean.mistakes import MISTAKES

    for mistake in MISTAKES:
        if mistake.name == name and name not in _OWN:
            return Words(mistake.done, mistake.advice)
    return Words(*_OWN.get(name, ("", "")))


def advice(names: Sequence[str]) -> list[str]:
    """Return what to write instead, for each name that says so."""
    return [words(name).advice for name in names if words(name).advice]
