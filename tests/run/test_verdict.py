from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from conformance.channel_shuffle.mistakes import flushed
from conformance.core.checks import Check
from conformance.core.implementations import Implementation, own
from conformance.core.outcomes import Answer, Declined, Fate, Raised
from conformance.run.goldens import installed
from conformance.run.known import Known
from conformance.run.verdict import judge
from conformance.subjects import all_cases, catalogue

CASES = {case.name: case for case in all_cases()}
GOLDENS = installed()
WRONG = {mistake.name: mistake.answers for mistake in catalogue()}


def check(case, promise="copy"):
    declared = Implementation(
        "channel_shuffle", "mine", "numpy", promise, "one_process", None, "", 1
    )
    return Check(declared, CASES[case], "cpu")


def verdict(case, outcome, promise="copy", known=()):
    asked = check(case, promise)
    return judge(asked, GOLDENS.of(asked.case), [outcome], known)


def right(case):
    return Answer(GOLDENS.of(CASES[case]).answers)


PROBE = "identity-probe-f32-c12-g3"


def test_the_right_bits_are_exact_and_have_a_hash():
    found = verdict(PROBE, right(PROBE))
    assert (found.status, found.mistake) == ("exact", None)
    assert len(found.answer) == 64


def test_a_wrong_answer_is_named_with_advice():
    x = GOLDENS.of(CASES[PROBE]).inputs["input"]
    found = verdict(PROBE, Answer({"output": WRONG["inverse-groups"].forward(x, 3)}))
    assert (found.status, found.mistake) == ("fail", "inverse-groups")
    assert "elements are wrong, first at [0, 1, 0, 0]" in found.reason
    assert "channels are the input's 0 3 6 9 1 4 7 10 2 5 8 11, right are 0 4 8 1 " in found.reason
    assert "reshape(N, g, C//g, …)" in found.reason


def test_a_wrong_answer_that_is_no_known_mistake_says_so():
    x = GOLDENS.of(CASES[PROBE]).inputs["input"]
    found = verdict(PROBE, Answer({"output": x * 2}))
    assert (found.status, found.mistake) == ("fail", None)
    assert "matches no known mistake" in found.reason


def test_what_one_case_cannot_tell_apart_is_left_unnamed():
    case = "grid-c8-g2"  # shuffled twice is here the inverse
    x = GOLDENS.of(CASES[case]).inputs["input"]
    found = verdict(case, Answer({"output": WRONG["inverse-groups"].forward(x, 2)}))
    assert found.mistake is None
    assert "inverse-groups or applied-twice" in found.reason


def test_any_permutation_that_leaves_no_group_is_the_articles_mistake():
    x = GOLDENS.of(CASES[PROBE]).inputs["input"]
    found = verdict(PROBE, Answer({"output": x[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 10]]}))
    assert found.mistake == "shuffled-within-groups"


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("bits-zeros-f32", lambda y: y + np.float32(0)),  # −0.0 + 0 = 0
        ("bits-subnormals-f32", lambda y: np.where(np.abs(y) < 1.2e-38, np.float32(0), y)),
        ("bits-quiet-nans-f64", lambda y: np.full_like(y, np.nan)),
    ],
)
def test_a_copy_that_computes_is_named(case, change):
    found = verdict(case, Answer({"output": change(right(case).arrays["output"])}))
    assert found.mistake == "value-changing-copy"


def test_a_gradient_that_computes_is_named_too():
    case = "vjp-zeros-f32"
    arrays = dict(right(case).arrays)
    arrays["input_cotangent"] = arrays["input_cotangent"] + np.float32(0)
    assert verdict(case, Answer(arrays)).mistake == "value-changing-copy"


def test_moved_zeros_are_not_taken_for_lost_ones():
    case = "bits-zeros-f32"
    x = GOLDENS.of(CASES[case]).inputs["input"]
    moved = x[:, [5, 3, 8, 1, 0, 2, 11, 4, 6, 10, 9, 7]]
    assert verdict(case, Answer({"output": moved})).mistake != "value-changing-copy"


def test_every_narrower_type_is_seen():
    case = "dtype-f64-c12-g4"
    narrowed = right(case).arrays["output"].astype("f2").astype("f8")
    assert verdict(case, Answer({"output": narrowed})).mistake == "narrow-round-trip"


@pytest.mark.parametrize(
    ("case", "narrower"),
    [
        ("dtype-f64-c12-g4", "f4"),
        ("dtype-c128-c12-g4", "c8"),
        ("dtype-i64-c12-g4", "i4"),
        ("bits-quiet-nans-f64", "f4"),
    ],
)
def test_a_narrower_type_that_is_given_is_seen_too(case, narrower):
    narrowed = right(case).arrays["output"].astype(narrower)
    found = verdict(case, Answer({"output": narrowed}))
    assert (found.mistake, "expected dtype" in found.reason) == ("narrow-round-trip", True)


def test_a_narrower_type_is_not_named_where_channels_moved_too():
    case = "dtype-f64-c12-g4"
    moved = right(case).arrays["output"].astype("f4")[:, ::-1]
    assert verdict(case, Answer({"output": moved})).mistake is None


def test_a_cast_that_ends_at_the_largest_number_is_seen():
    case, largest = "bits-infinities-f64", np.finfo("f4").max
    clipped = np.clip(right(case).arrays["output"], -largest, largest)
    assert verdict(case, Answer({"output": clipped})).mistake == "narrow-round-trip"


@pytest.mark.parametrize(
    ("case", "change", "words"),
    [
        (
            "bits-signalling-nans-f16",
            lambda y: _bits_set(y, 0x0200),
            "signalling NaNs became quiet",
        ),
        ("bits-subnormals-f16", lambda y: np.copysign(np.float16(0), y), "subnormals became 0"),
        ("bits-zeros-f32", lambda y: y + np.float32(0), "−0.0 became 0.0"),
        ("bits-quiet-nans-f64", lambda y: np.full_like(y, np.nan), "NaNs became other NaNs"),
    ],
)
def test_what_a_copy_lost_is_said_where_no_channel_can_be_told(case, change, words):
    found = verdict(case, Answer({"output": change(right(case).arrays["output"])}))
    assert found.fits[0] == "value-changing-copy"
    assert set(found.fits) <= {"value-changing-copy", "narrow-round-trip"}
    assert found.evidence.observed[-1] == words


def _bits_set(array, bits):
    return (array.view(np.uint16) | np.uint16(bits)).view(np.float16)


def test_lost_values_do_not_hide_that_channels_moved():
    case = "bits-arbitrary-bits-f16"
    x = GOLDENS.of(CASES[case]).inputs["input"]
    groups = CASES[case].question.groups
    found = verdict(case, Answer({"output": flushed(WRONG["inverse-groups"].forward(x, groups))}))
    assert found.mistake != "value-changing-copy"


@pytest.mark.parametrize("changed", ["shares_memory", "input_after"])
def test_shared_memory_and_a_changed_input_are_named(changed):
    case = "no-alias-contiguous-g3"
    arrays = dict(right(case).arrays)
    arrays[changed] = np.array(True) if changed == "shares_memory" else arrays[changed] + 1
    assert verdict(case, Answer(arrays)).mistake == "aliased-or-mutated"


def test_an_answer_where_an_error_is_promised_is_an_error():
    found = verdict("indivisible-c4-g3", Answer({"output": np.zeros((2, 4, 3))}))
    assert (found.status, found.mistake) == ("error", "indivisible-accepted")
    assert verdict("groups-0", Answer({"output": np.zeros((2, 6, 3))})).mistake is None
    assert verdict("rank-1", Answer({"output": np.zeros(4)}), "native").status == "error"


def test_torchs_operator_owes_type_and_words_and_others_any_error():
    words = "Number of channels must be divisible by groups. Got 4 channels and 3 groups."
    case = "indivisible-c4-g3"
    assert verdict(case, Raised("RuntimeError", words), "native").status == "exact"
    assert verdict(case, Raised("RuntimeError", "no"), "native").status == "error"
    assert verdict(case, Raised("ValueError", words), "native").status == "error"
    assert verdict(case, Raised("ValueError", "no")).status == "exact"


def test_a_subclass_of_the_promised_error_will_do():
    words = "Number of groups to divide channels in must be positive. Value of groups:0"
    raised = Raised("TorchRuntimeError", f"in a graph: {words}", ("RuntimeError", "Exception"))
    assert verdict("groups-0", raised, "native").status == "exact"


def test_what_an_implementation_raises_is_said_with_its_place():
    found = verdict(PROBE, Raised("ValueError", "no such axis", where="mine.py:7"))
    assert (found.status, found.reason) == ("error", "raised ValueError at mine.py:7: no such axis")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Declined("unsupported", "why"), "unsupported"),
        (Declined("not-exercised", "why"), "not-exercised"),
        (Fate("crash", "why"), "crash"),
        (Fate("timeout", "why"), "timeout"),
    ],
)
def test_what_is_no_answer_keeps_its_word(outcome, status):
    found = verdict(PROBE, outcome)
    assert (found.status, found.reason, found.answer) == (status, "why", None)


def test_a_large_answer_is_compared_by_hash_and_diagnosed_when_wrong():
    from conformance.subjects import solve

    case = "large-many-samples-u8"
    golden = solve(CASES[case])
    assert verdict(case, Answer(golden.answers)).status == "exact"
    x = golden.inputs["input"]
    found = verdict(case, Answer({"output": WRONG["inverse-groups"].forward(x, 3)}))
    assert found.mistake == "inverse-groups"


ENTRY = Known(
    (f"channel_shuffle/mine@cpu:{PROBE}",),
    ("error raised ValueError*",),
    date(2026, 11, 24),
    "differs so",
    "some/repo#1",
)


def test_a_known_difference_does_not_count():
    found = verdict(PROBE, Raised("ValueError", "no"), known=[ENTRY])
    assert found.status == "known"
    assert found.reason == "differs so (some/repo#1, known since 2026-11-24)"


def test_a_known_difference_that_is_gone_is_a_failure():
    found = verdict(PROBE, right(PROBE), known=[ENTRY])
    assert found.status == "fail"
    assert "remove the entry" in found.reason


def test_an_entry_for_another_check_changes_nothing():
    assert verdict("grid-c6-g2", right("grid-c6-g2"), known=[ENTRY]).status == "exact"


OF_ADAPTERS = Known(
    ("channel_shuffle/*",),
    ("error raised ValueError*",),
    date(2026, 11, 24),
    "write it so",
    "some/repo#1",
    adapters="numpy",
    mistake="plainly-written",
)


def test_an_entry_about_adapters_excuses_what_it_has_on_record_and_asks_nothing():
    found = verdict(PROBE, Raised("ValueError", "no"), known=[OF_ADAPTERS])
    assert (found.status, found.mistake) == ("known", "plainly-written")
    assert found.reason.startswith("plainly-written: write it so")
    assert verdict(PROBE, right(PROBE), known=[OF_ADAPTERS]).status == "exact"
    other = verdict(PROBE, Raised("KeyError", "no"), known=[OF_ADAPTERS])
    assert other.status == "error"
    assert "on record" not in other.reason


def test_an_entry_about_adapters_of_another_framework_or_about_adapters_excuses_nobody_else():
    of_jax = replace(OF_ADAPTERS, adapters="jax")
    assert verdict(PROBE, Raised("ValueError", "no"), known=[of_jax]).status == "error"
    own_check = Check(next(i for i in own() if i.name == "numpy_reshape"), CASES[PROBE], "cpu")
    raised = [Raised("ValueError", "no")]
    assert judge(own_check, GOLDENS.of(CASES[PROBE]), raised, [OF_ADAPTERS]).status == "error"


@pytest.mark.parametrize(("factor", "words"), [(1, "; the first is right"), (2, "not-divided")])
def test_copies_that_differ_are_a_failure_even_where_the_first_is_right(factor, words):
    case = CASES["tied-w2-equal-k1-f32"]
    declared = Implementation(
        "gradient_mean", "mine", "jax", "rank_mean", "one_process", None, "", 1
    )
    golden = GOLDENS.of(case)
    right = {
        name.removeprefix("rank_mean/"): array
        for name, array in golden.answers.items()
        if name.startswith("rank_mean/")
    }
    given = Answer({name: array * factor for name, array in right.items()}, "copies differ")
    found = judge(Check(declared, case, "cpu"), golden, [given])
    assert found.status == "fail"
    assert found.reason.startswith("copies differ; ")
    assert words in found.reason
