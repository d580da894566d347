from conformance.report.agreement import agreements
from tests.report.records import record


def test_the_same_bits_agree():
    (one,) = agreements([record("a", "x", "1"), record("b", "x", "1")])
    assert one.everyone_agrees
    assert one.words == "channel_shuffle:x: all 2 answers are the same bits"


def test_who_differs_is_named():
    (one,) = agreements([record(n, "x", "1") for n in "ab"] + [record("c", "x", "2")])
    assert not one.everyone_agrees
    assert one.words == "channel_shuffle:x: 2 of 3 answers are the same bits; differing: c@cpu"


def test_no_answer_and_one_answer_are_no_agreement():
    none, single = agreements([record("a", "x", None, "unsupported"), record("a", "y", "1")])
    assert none.words == "channel_shuffle:x: nobody answered"
    assert single.words == "channel_shuffle:y: one answer (a@cpu), nothing to compare"
