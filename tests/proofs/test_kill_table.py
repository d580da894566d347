"""Which case kills which mistake: the proof that the suite would catch each of them."""

from functools import cache

import pytest

from conformance.channel_shuffle.diagnosis import answer_of
from conformance.proofs import kill_matrix as killing
from conformance.subjects import all_cases, catalogue, solve
from tests.proofs.kills import kills_of_all

CASES = [case for case in all_cases() if case.operation == "channel_shuffle"]
STORED = [case for case in CASES if not case.on_the_fly]
NAMES = [mistake.name for mistake in catalogue("channel_shuffle")]
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
    "wrong-axis-channels-first": [(6, 3), (12, 3), (18, 3)],
    "reinterpreted-layout": [(6, 2), (12, 3), (24, 4)],
    "batch-folded": [(6, 2), (12, 3), (24, 4)],
    "first-sample-only": [(6, 2), (12, 3), (24, 4)],
}


@cache
def kills():
    return kills_of_all(STORED)


def test_every_mistake_is_killed_by_three_families_and_named():
    assert killing.shortcomings(kills(), STORED, "channel_shuffle") == []


def test_every_pair_of_mistakes_is_told_apart_by_some_case():
    assert killing.twins(kills()) == []


def test_a_case_that_kills_nothing_asks_for_no_elements_or_for_an_error():
    cases = {case.id: case for case in STORED}
    for name in killing.idle(kills(), STORED):
        case = cases[name]
        assert case.refusal or 0 in case.question.shape or case.question.channels == 1, name


@pytest.mark.parametrize("families", ["effects", "bit-patterns images", "derivatives"])
def test_families_that_are_removed_are_missed(families):
    """The proof can fail: it says which mistake is then caught by too few."""
    fewer = [kill for kill in kills() if kill.family not in families.split()]
    missing = killing.shortcomings(fewer, operation="channel_shuffle")
    assert missing
    assert all("killed by 2 families" in line for line in missing)


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
        "wrong-axis-channels-first",
        "reinterpreted-layout",
        "batch-folded",
        "first-sample-only",
        "forward-permutation-in-backward",
        "gradient-stopped",
        "aliased-or-mutated",
        "value-changing-copy",
        "indivisible-accepted",
        "narrow-round-trip",
    ]


@pytest.mark.parametrize("name", NAMED_BY_PROBES)
def test_identity_probes_name_every_mistake_that_moves_elements(name):
    by_case = {k.case: k.names for k in kills() if k.mistake == name}
    for channels, groups in NAMED_BY_PROBES[name]:
        probe = f"channel_shuffle:identity-probe-f32-c{channels}-g{groups}"
        assert by_case[probe] == (name,)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("forward-permutation-in-backward", "derivatives"),
        ("aliased-or-mutated", "effects"),
        ("value-changing-copy", "bit-patterns"),
        ("narrow-round-trip", "dtypes"),
        ("indivisible-accepted", "refusals"),
    ],
)
def test_the_other_mistakes_are_named_where_they_are_looked_for(name, family):
    assert any(k.is_named for k in kills() if k.mistake == name and k.family == family)


def test_no_answer_of_a_mistake_is_given_the_name_of_another():
    assert [k for k in kills() if len(k.names) == 1 and not k.is_named] == []


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.on_the_fly], ids=lambda case: case.name
)
def test_large_cases_tell_the_shuffle_from_whatever_else_moves_elements(case):
    """With a period of 256 in u8, all channels of a 32 × 32 picture once were the same."""
    named = {kill.mistake for kill in killing.kills([case]) if kill.is_named}
    assert {"inverse-groups", "no-transpose", "applied-twice", "reinterpreted-layout"} <= named


def test_the_right_answer_is_never_a_mistakes():
    for case in STORED:
        golden = solve(case)
        for name in NAMES if case.refusal is None else ():
            answer = answer_of(name, case, golden.inputs)
            assert answer is None or any(
                answer[key].tobytes() != golden.answers[key].tobytes() for key in golden.answers
            )


def test_the_documentations_own_example_cannot_tell_the_shuffle_from_its_inverse():
    case = next(case for case in STORED if case.name == "documentation-example")
    assert answer_of("inverse-groups", case, solve(case).inputs) is None
