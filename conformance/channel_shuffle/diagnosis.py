"""Diagnosis of wrong answers about channel shuffle."""

from collections.abc import Callable

import numpy as np

from conformance.channel_shuffle import definition as oracle
from conformance.channel_shuffle.lost_values import each, lost_values, lost_width
from conformance.channel_shuffle.mistakes import MISTAKES, flushed
from conformance.channel_shuffle.permutations import (
    channel_permutation,
    channels_in_words,
    nearest_permutation,
    stays_in_groups,
)
from conformance.core.comparison import Arrays, difference
from conformance.core.questions import ShuffleCase, ShuffleQuestion
from conformance.core.verdict import Diagnosis

IN_GROUPS, LOST, ACCEPTED = "shuffled-within-groups", "value-changing-copy", "indivisible-accepted"
NARROWED = "narrow-round-trip"


def diagnose(case: ShuffleCase, inputs: Arrays, answer: Arrays, expected: Arrays) -> Diagnosis:
    """Names the mistakes behind a wrong answer: by its memory, by recomputing them, by its values.

    The answer is known to be wrong. Mistakes that the answer cannot tell apart are all named.
    """
    question = case.question
    if question.observe == "effects" and _touched_memory(answer, expected):
        return Diagnosis(("aliased-or-mutated",))
    permutation = _read_permutation(question, inputs, answer)
    observed: tuple[str, ...] = ()
    if permutation is not None:
        observed = (_in_words(permutation, question),)
    fits = {name for name in _BY_NAME if _gives(name, case, inputs, answer)}
    losses = lost_values(inputs, answer, expected)
    if lost_width(question, answer, expected):
        fits.add(NARROWED)
    if losses:
        fits.add(LOST)
        observed += (losses,)
    fits = _with_or_without_in_groups(fits, permutation, question)
    if losses and difference(each(answer, flushed), each(expected, flushed)) is not None:
        # A compiler may have lost the values of channels that the code moved wrongly.
        fits |= {name for name in _BY_NAME if _gives(name, case, inputs, answer, flushed)}
    names = tuple(name for name in _BY_NAME if name in fits)
    return Diagnosis(names, observed, permutation)


def _with_or_without_in_groups(
    names: set[str], permutation: tuple[int, ...] | None, question: ShuffleQuestion
) -> set[str]:
    """Applies the rule of "any other permutation that never leaves a group".

    The rule fits where the permutation of the answer stays inside the groups; a nearer name goes
    before it. A single group, or two channels in each, shows hardly anything else: both are named.
    """
    others = names - {IN_GROUPS}
    groups = int(question.groups)
    fits = IN_GROUPS in names if permutation is None else stays_in_groups(permutation, groups)
    says_little = groups == 1 or question.channels <= 2 * groups
    return others | {IN_GROUPS} if fits and (not others or says_little) else others


def accepted_refusal(case: ShuffleCase, inputs: Arrays, answer: Arrays) -> Diagnosis:
    """Names the mistakes of an answer where an error is promised."""
    question, groups = case.question, case.question.groups
    whole = isinstance(groups, int) and groups > 0 and len(question.shape) > 1
    is_indivisible = whole and question.channels % groups != 0
    return Diagnosis(
        tuple(
            name
            for name in _BY_NAME
            if (name == ACCEPTED and is_indivisible) or _gives(name, case, inputs, answer)
        )
    )


def _gives(
    name: str,
    case: ShuffleCase,
    inputs: Arrays,
    answer: Arrays,
    compared_as: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> bool:
    """Says whether the mistake gives this answer, as far as `compared_as` keeps them apart."""
    wrong = answer_of(name, case, inputs)
    if wrong is None:
        return False
    return difference(each(answer, compared_as), each(wrong, compared_as)) is None


def answer_of(name: str, case: ShuffleCase, inputs: Arrays) -> Arrays | None:
    """Returns the answer of a mistake to a case; None where it raises, is right or not known."""
    if name not in _BY_NAME:
        return None
    wrong = _answer(case, inputs, _BY_NAME[name].answers)
    right = _answer(case, inputs, oracle.RIGHT)
    if wrong is None or (right is not None and difference(wrong, right) is None):
        return None
    return wrong


def _answer(case: ShuffleCase, inputs: Arrays, operator: oracle.Operator) -> Arrays | None:
    try:
        return oracle.answer(case.question, inputs, operator)
    except (ValueError, IndexError, ZeroDivisionError):
        # The code of the mistake raises on this shape.
        return None


_BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def _touched_memory(answer: Arrays, expected: Arrays) -> bool:
    return any(
        name in answer and difference({name: answer[name]}, {name: expected[name]}) is not None
        for name in ("shares_memory", "input_after")
        if name in expected
    )


def _read_permutation(
    question: ShuffleQuestion, inputs: Arrays, answer: Arrays
) -> tuple[int, ...] | None:
    if question.transform == "vmapped" or question.then or question.observe == "convolutions":
        return None
    return channel_permutation(inputs["input"], answer.get("output", np.empty(0)))


def _in_words(permutation: tuple[int, ...], question: ShuffleQuestion) -> str:
    right = tuple(oracle.permutation(question.channels, int(question.groups)).tolist())
    if permutation == right:
        return "the channels of the output stand right"
    move = nearest_permutation(permutation, int(question.groups))
    words = channels_in_words(permutation, right)
    return f"{words}: your code seems to do {move}" if move else words
