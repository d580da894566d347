"""Which case kills which mistake: the proof that the suite would catch each of them."""

from collections import defaultdict
from functools import cache

import pytest

from conformance.cases import all_cases
from conformance.judge.shuffle_diagnosis import accepted_refusal, answer_of, diagnose
from conformance.mistakes import catalogue
from conformance.store import make

STORED = [
    case for case in all_cases() if case.operation == "channel_shuffle" and not case.on_the_fly
]
NAMES = [mistake.name for mistake in catalogue("channel_shuffle")]
# Seen in what an answer does, not in what it says: the families that look there.
OTHERWISE = {"indivisible-accepted": {"refusals"}}
# Identity probes of these pairs (C, g) name each of these mistakes and no other.
NAMED_BY_PROBES = {
    "inverse-groups": [(12, 3), (20, 5), (24, 6)],
    "no-transpose": [(6, 2), (12, 3), (24, 4)],
    "applied-twice": [(12, 3), (20, 5), (24, 6)],
    "reversed-channels": [(6, 2), (12, 3), (24, 4)],
    "reversed-in-groups": [(12, 3), (18, 3), (24, 4)],
    "flipped-groups": [(6, 3), (12, 3), (24, 4)],
    "rolled-by-groups": [(12, 3), (20, 5), (24, 4)],
    "shuffled-within-groups": [(6, 2), (12, 3), (24, 4)],
    "wrong-axis-channels-last": [(6, 2), (12, 3), (24, 4)],
    "reinterpreted-layout": [(6, 2), (12, 3), (24, 4)],
    "batch-folded": [(6, 2), (12, 3), (24, 4)],
    "first-sample-only": [(6, 2), (12, 3), (24, 4)],
}


@cache
def table():
    """mistake → the names diagnosed for its answer, by case."""
    killed = defaultdict(dict)
    for case in STORED:
        golden = make(case)
        for name in NAMES if case.refusal is None else ():
            answer = answer_of(name, case, golden.inputs)
            if answer is not None:
                found = diagnose(case, golden.inputs, answer, golden.answers)
                killed[name][case] = found.names
    return killed


def test_the_catalogue_has_every_name():
    assert NAMES == [
        "inverse-groups",
        "no-transpose",
        "applied-twice",
        "reversed-channels",
        "reversed-in-groups",
        "flipped-groups",
        "rolled-by-groups",
        "shuffled-within-groups",
        "wrong-axis-channels-last",
        "reinterpreted-layout",
        "batch-folded",
        "first-sample-only",
        "forward-permutation-in-backward",
        "aliased-or-mutated",
        "value-changing-copy",
        "indivisible-accepted",
        "narrow-round-trip",
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERWISE])
def test_every_mistake_is_caught_and_named(name):
    named = [case.name for case, names in table()[name].items() if names == (name,)]
    assert named


@pytest.mark.parametrize("name", NAMED_BY_PROBES)
def test_identity_probes_name_every_mistake_that_moves_elements(name):
    by_pair = {
        (case.question.channels, case.question.groups): names
        for case, names in table()[name].items()
        if case.family == "identity-probe"
    }
    for pair in NAMED_BY_PROBES[name]:
        assert by_pair[pair] == (name,)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("forward-permutation-in-backward", "derivatives"),
        ("aliased-or-mutated", "effects"),
        ("value-changing-copy", "bit-patterns"),
        ("narrow-round-trip", "dtypes"),
    ],
)
def test_the_other_mistakes_are_named_where_they_are_looked_for(name, family):
    assert any(names == (name,) for case, names in table()[name].items() if case.family == family)


def test_indivisible_groups_that_are_accepted_are_named():
    named = {case.name for case in STORED if case.refusal and accepted_refusal(case).names}
    assert {"indivisible-c4-g3", "indivisible-c6-g4", "indivisible-c8-g3"} <= named
    assert not any(name.startswith("groups-") for name in named)


def test_no_answer_of_a_mistake_is_given_the_name_of_another():
    wrong = [
        (name, names, case.name)
        for name, by_case in table().items()
        for case, names in by_case.items()
        if len(names) == 1 and name not in names
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "case", [case for case in all_cases() if case.on_the_fly], ids=lambda case: case.name
)
def test_large_cases_tell_the_shuffle_from_whatever_else_moves_elements(case):
    """With a period of 256 in u8, all channels of a 32 × 32 picture once were the same."""
    golden = make(case)
    for name in ("inverse-groups", "no-transpose", "applied-twice", "reinterpreted-layout"):
        answer = answer_of(name, case, golden.inputs)
        assert answer is not None
        assert diagnose(case, golden.inputs, answer, golden.answers).names == (name,)


def test_the_right_answer_is_never_a_mistakes():
    for case in STORED:
        golden = make(case)
        for name in NAMES if case.refusal is None else ():
            answer = answer_of(name, case, golden.inputs)
            assert answer is None or any(
                answer[key].tobytes() != golden.answers[key].tobytes() for key in golden.answers
            )


def test_the_documentations_own_example_cannot_tell_the_shuffle_from_its_inverse():
    case = next(case for case in STORED if case.name == "documentation-example")
    assert answer_of("inverse-groups", case, make(case).inputs) is None


def test_a_family_that_is_removed_leaves_its_mistakes_uncaught():
    """The proof can fail: without the effects family nothing sees an alias."""
    assert {case.family for case in table()["aliased-or-mutated"]} == {"effects"}
    assert {case.family for case in table()["value-changing-copy"]} == {"bit-patterns"}
