"""Counts and windows of cases from outside: what means nothing is one line."""

import json

import pytest

from conformance.core.outcomes import UsageError
from conformance.run.case_files import read

RIGHT = {
    "model": "tokens",
    "shards": [[1, 2]],
    "counts": [[3, 1.25]],
    "items": "tokens",
    "fractions": True,
}


def case(promises=("step_mean",), **changed):
    question = {**RIGHT, **changed}
    return json.dumps(
        {"operation": "gradient_mean", "promises": list(promises), "question": question}
    )


def test_counts_are_read():
    assert read(case()).question.counts == ((3, 1.25),)


def test_counts_of_a_second_term_are_read():
    text = case(model="two_next", terms=[[[1, 2]]])
    assert read(text).question.terms == (((1, 2),),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (case(promises=()), "counts are for cases whose promises are step_mean alone"),
        (case(promises=("rank_mean",)), "counts are for cases whose promises are step_mean alone"),
        (case(counts=[]), "counts are for cases whose promises are step_mean alone"),
        (case(counts=[[3]]), "they have the form of shards"),
        (case(counts=[[5, 1]]), "each is a number of quarters, at most of all items"),
        (case(counts=[[0.3, 1]]), "each is a number of quarters, at most of all items"),
        (case(counts=[[-1, 1]]), "each is a number of quarters, at most of all items"),
        (case(counts=[[0, 0]]), "the mean over a step has an item"),
        (case(model="mlp"), "items are tokens, which mlp has none of"),
        (case(terms=[[[1, 1]]]), "one for each head of tokens after the first"),
        (case(model="two_next", terms=[[[1]]]), "they have the form of shards"),
        (case(model="two_next", terms=[[[0, 0]]]), "the mean over a step has an item"),
        (case(observe="clipped"), "whose tier is bounded: a norm is a root"),
        (case(windows=[2]), "they share out 1 micro-batches"),
        (case(windows=[0, 1]), "they share out 1 micro-batches"),
    ],
)
def test_what_means_nothing_is_one_line(text, words):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
