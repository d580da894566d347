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
        ({"operation": "dropout"}, "operation is 'dropout'; known: channel_shuffle, gradient_mean"),
        ({"colour": "red"}, "unknown field 'colour'; known: operation, name"),
        ({"question": {"groups": 2}}, "question: shape is missing"),
        ({"question": [1, 2]}, "question is [1, 2]; an object is meant, with shape, groups"),
        ({"question": {"shape": [1, "6"], "groups": 2}}, "question.shape[1] is '6'; int is meant"),
        ({"question": {"shape": [6, 1], "groups": "2"}}, "question.groups is '2'; int | float"),
        (
            {"question": {"shape": [6, 1], "groups": 2, "layout": "odd"}},
            "question.layout is 'odd'; 'contiguous' or 'channels_last'",
        ),
        ({"question": {"shape": 6, "groups": 2}}, "question.shape is 6; tuple[int, ...] is meant"),
        ({"clauses": "S1"}, "clauses is 'S1'; tuple[str, ...] is meant"),
        ({"refusal": {"type": 3}}, "refusal.type is 3; str is meant"),
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
