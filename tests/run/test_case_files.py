import json

import pytest

from conformance.core.outcomes import UsageError
from conformance.core.questions import BehaviourQuestion
from conformance.run.case_files import read, written
from conformance.subjects import all_cases

ASKED = [
    c for c in all_cases() if not isinstance(c.question, BehaviourQuestion) and not c.on_the_fly
]
PLAIN = {"operation": "channel_shuffle", "question": {"shape": [1, 6, 1], "groups": 2}}


def test_every_case_comes_back_from_its_json():
    for case in ASKED:
        assert read(written(case)) == case


def test_a_case_without_a_name_is_named_after_its_question():
    one, again = read(json.dumps(PLAIN)), read(json.dumps({**PLAIN, "about": "else"}))
    other = read(json.dumps({**PLAIN, "question": {"shape": [1, 6, 1], "groups": 3}}))
    assert one.name == again.name != other.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"operation": "dropout"},
            "operation: unknown value 'dropout'; known: channel_shuffle, gra",
        ),
        ({"colour": "red"}, "unknown field 'colour'; known: operation, question, name"),
        ({"question": {"groups": 2}}, "question: 'shape' is missing"),
        ({"question": [1, 2]}, "question: expected object, got array"),
        (
            {"question": {"shape": [1, "6"], "groups": 2}},
            "question: shape[1]: expected int, got str",
        ),
        (
            {"question": {"shape": [6, 1], "groups": "2"}},
            "question: groups: expected bool | int | float, got",
        ),
        (
            {"question": {"shape": [6, 1], "groups": 2, "layout": "odd"}},
            "question: layout: unknown value 'odd'; known: contiguous, channels_last",
        ),
        ({"question": {"shape": 6, "groups": 2}}, "question: shape: expected array, got int"),
        ({"clauses": "S1"}, "clauses: expected array, got str"),
        ({"refusal": {"type": 3}}, "refusal.type: expected str, got int"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_would_be_right(change, words):
    with pytest.raises(UsageError) as raised:
        read(json.dumps({**PLAIN, **change}), "mine.json")
    assert str(raised.value).startswith("mine.json")
    assert words in str(raised.value)


def test_what_is_no_json_is_said_to_be_none():
    with pytest.raises(UsageError, match=r"mine\.json: is not JSON"):
        read("{", "mine.json")
