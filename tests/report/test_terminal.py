import io
import re

import pytest
from rich.console import Console

from conformance.report.merging import merge
from conformance.report.summary import summarize
from conformance.report.terminal import FAILING, show
from conformance.run.results import Run
from tests.report import hostile
from tests.report.records import ENVIRONMENT, record, results

HEADER = {
    "checks": 3,
    "started": "2026-11-25T21:19:35.737+00:00",
    "suite": "0.1.0",
    "goldens": "0fadb3a6cd7894b2",
    "environment": {
        **ENVIRONMENT,
        "adapters": ["mine.py"],
        "devices": {"jax": {"cpu:0": "cpu", "cpu:1": "cpu"}, "torch": {"cpu": "x86_64"}},
        "precision": {"matmul_bits torch cpu": "f64 53, f32 24", "cudnn_tf32": "False"},
    },
}
EVIDENCE = {
    "differs": {"words": "output: 2 of 4 elements are wrong"},
    "observed": ["it moves the channels as (1 2)", "every gradient is twice the right one"],
    "done": "shuffled with C/g groups",
    "advice": "View the channels as (g, C/g).",
}
# What every status and long reasons need: two operations, three frameworks, what is known.
GREEN = (
    *(record(name, "x", "1") for name in ("torch_module", "jax_jit", "numpy_reshape")),
    *(record("jax_jit", f"y{n}", "1", "within-bound", error_over_bound=n / 9) for n in range(8)),
    *(record("torch_compile", f"k{n}", "2", "known", reason=f"known {n} " * 20) for n in range(4)),
    *(
        record("numpy_reshape", f"u{n}", None, "unsupported", reason=f"numpy has no {n}")
        for n in range(30)
    ),
    record("torch_module", "n", None, "not-exercised", reason="it asks nothing"),
)


def shown(records, footer=None, *, width=None, header=HEADER, **options):
    """What is printed to a pipe, or to a terminal of this width."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=width is not None, width=width, no_color=True)
    show(summarize(Run(header, tuple(records), footer)), console, **options)
    out = stream.getvalue()
    return out if width is None else re.sub(r"\x1b\[[\d;]*m", "", out)


def test_a_green_run_is_at_most_25_lines_and_ends_with_its_verdict():
    *lines, verdict = shown(GREEN, {"conforms": True}).splitlines()
    assert len(lines) < 25
    assert verdict.startswith("Conforms: 3 exact, 8 within-bound, 4 known, 30 unsupported, 1 not-")


def test_a_run_of_everything_is_at_most_25_lines(tmp_path):
    """Of many implementations, cases and reasons, as the suite has them."""
    many = [
        record(f"{framework}_{i}", f"{case}", "1" if i else None, "exact" if i else "unsupported")
        for framework in ("torch", "jax", "numpy")
        for i in range(30)
        for case in range(20)
    ]
    whole = [*many, *(vary(one, "gradient_mean") for one in many)]
    assert len(shown(whole, {}).splitlines()) <= 25
    assert len(shown(whole, {}, everything=True).splitlines()) > 180


def vary(one, operation):
    from dataclasses import replace

    return replace(one, operation=operation, id=one.id.replace("channel_shuffle", operation))


def test_what_ran_where_is_said_first_label_first():
    assert shown(GREEN, {}).split("\n\n")[0].splitlines() == [
        "started    2026-11-25 21:19 UTC, suite 0.1.0, goldens 0fadb3a6cd78",
        "system     Linux x86_64 glibc 2.36, Python 3.11.7",
        "packages   torch 2.13.0, jax 0.10.2",
        "devices    jax 2 × cpu, torch cpu (x86_64)",
        "precision  matmul keeps f64 53, f32 24 bits (torch cpu)",
        "adapters   mine.py",
    ]


def test_checks_are_counted_by_operation_and_framework():
    rows = [line.split() for line in shown(GREEN, {}).split("\n\n")[1].splitlines()]
    assert rows[1] == ["checks", "exact", "bound", "failed", "known", "tested"]
    assert rows[2:] == [
        ["channel_shuffle", "jax", "9", "1", "8", "·", "·", "·"],
        ["channel_shuffle", "numpy", "31", "1", "·", "·", "·", "30"],
        ["channel_shuffle", "torch", "6", "1", "·", "·", "4", "1"],
    ]


def test_an_implementation_that_nobody_knows_is_counted_as_from_outside():
    assert "channel_shuffle outside" in shown([record("a", "x", "1")], {})


def test_what_is_known_and_what_was_not_tested_have_a_line_each():
    out = shown(GREEN, {})
    (known,) = [line for line in out.splitlines() if line.startswith("known ")]
    (aside,) = [line for line in out.splitlines() if line.startswith("not tested")]
    assert known.startswith("known       4 checks: 1 × known 0 known 0")
    assert known.endswith("2 more: --all")
    assert aside.startswith(
        "not tested  31 checks: 1 × numpy has no 0; 1 × numpy has no 1; 29 more"
    )


def test_the_most_frequent_reason_comes_first():
    seldom = record("a", "x", None, "unsupported", reason="seldom")
    often = [record("a", f"y{n}", None, "unsupported", reason="often") for n in range(2)]
    right = record("a", "z", "1")
    assert "not tested  3 checks: 2 × often; 1 × seldom\n" in shown([right, seldom, *often], {})


def test_all_has_a_row_for_every_implementation_and_reason():
    out = shown(GREEN, {}, everything=True)
    for name in ("torch_module", "torch_compile", "jax_jit", "numpy_reshape"):
        assert f"\nchannel_shuffle/{name}@cpu " in out
    assert "unsupported × 1: numpy has no 29\n    numpy_reshape\n" in out
    assert "The largest error ÷ bound is that of channel_shuffle/jax_jit@cpu:y7" in out


def test_all_names_who_gave_other_bits():
    out = shown([record("a", "x", "1"), record("b", "x", "2")], {}, everything=True)
    assert "channel_shuffle:x: 1 of 2 answers are the same bits; differing: b@cpu" in out


def test_agreement_and_bounds_have_a_line_each():
    out = shown(GREEN, {})
    assert "agreement   1 of 1 cases with several answers got the same bits from all\n" in out
    assert "bounds      error ÷ bound of 8 checks: median 0.39, ninth decile 0.7, most" in out


@pytest.mark.parametrize("everything", [False, True])
def test_a_run_that_was_cut_short_says_so(everything):
    out = shown([record("a", "x", "1")], everything=everything)
    assert "Cut short after 1 of 3 checks" in out


def failing(number=0, **others):
    name = "inverse-groups"
    return record("a", str(number), "1", "fail", **{"mistake": name, "fits": (name,), **others})


def test_a_failure_is_one_fact_a_line_label_first():
    out = shown([failing(reason="whole", evidence=EVIDENCE)], {"conforms": False})
    assert out.split("\n\n")[2].splitlines() == [
        "channel_shuffle/a@cpu does not conform",
        "fail     channel_shuffle/a@cpu:0",
        "differs  output: 2 of 4 elements are wrong",
        "shows    it moves the channels as (1 2)",
        "shows    every gradient is twice the right one",
        "mistake  inverse-groups",
        "done     shuffled with C/g groups",
        "write    View the channels as (g, C/g).",
        "rerun    conformance run channel_shuffle/a@cpu:0 --adapter mine.py",
    ]


def test_mistakes_that_one_case_cannot_tell_apart_are_all_named():
    both = {"differs": {"words": "output: wrong"}}
    undecided = record("a", "x", "1", "fail", fits=("no-transpose", "applied-twice"), evidence=both)
    out = shown([undecided], {})
    assert "mistake  no-transpose or applied-twice: this case cannot tell them apart\n" in out


@pytest.mark.parametrize("status", ["fail", "error", "crash", "timeout"])
def test_where_nothing_was_read_off_the_reason_stands_whole(status):
    out = shown([record("a", "x", None, status, reason="so it was")], {})
    assert f"{status:<9}channel_shuffle/a@cpu:x\nreason   so it was\nrerun    conformance" in out


def test_of_many_failures_one_of_each_mistake_is_shown_and_the_others_are_counted():
    records = [record("a", f"late{n}", None, "timeout") for n in range(2)]
    records += [failing(n, evidence=EVIDENCE) for n in range(8)]
    out = shown(records, {"conforms": False})
    assert out.count("rerun    conformance run channel_shuffle/a@cpu") == 2 < FAILING
    assert out.index("mistake  inverse-groups") < out.index("timeout  "), "what is named is first"
    assert "\n\nmore     7 × inverse-groups\nmore     1 × timeout, no known mistake\n\n" in out
    whole = shown(records, {"conforms": False}, everything=True)
    assert whole.count("rerun    conformance run channel_shuffle/a@cpu") == len(records)
    assert "\nmore " not in whole


def test_the_last_lines_say_what_an_implementation_did_and_the_verdict():
    records = [failing(n, evidence=EVIDENCE) for n in range(2)]
    *_, sentence, verdict = shown([*records, record("b", "x", "1")], {}).splitlines()
    assert sentence.startswith("channel_shuffle/a@cpu fails 2 of 2 checks; all are consistent with")
    assert verdict == "Does not conform: 1 exact, 2 fail"


def test_of_a_merge_each_run_has_a_row_and_what_changed_a_line(tmp_path):
    files = [
        results(tmp_path / v, [record("a", "x", v, status)], packages={"torch": v})
        for v, status in (("2.9", "fail"), ("2.13", "exact"))
    ]
    run = merge(files)
    out = shown(run.records, run.footer, header=run.header)
    assert out.startswith("R1  torch 2.9, ")
    assert [line.split()[0] for line in out.split("\n\n")[1].splitlines()[2:]] == ["R1", "R2"]
    assert "changed  channel_shuffle/a:x: fail 2.9 on R1; exact 2.13 on R2" in out
    assert "channel_shuffle/a@cpu does not conform, in R1" in out


def test_a_pipe_gets_every_line_whole_and_without_colour():
    words = "so long a reason " * 40
    out = shown([record("a", "x", "1", "fail", reason=words)], {})
    assert f"reason   {words}\n" in out
    assert "\x1b" not in out


def test_a_terminal_of_80_columns_is_never_overrun_and_loses_no_word():
    records = [
        failing(reason="whole", evidence={**EVIDENCE, "advice": "write this instead " * 20}),
        record("a", "x", None, "error", reason="so long a reason " * 40),
        *GREEN,
    ]
    out, piped = shown(records, {}, width=80), shown(records, {})
    assert out.split() == piped.split()
    lines = out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("rerun")) <= 80


def test_the_table_fits_80_columns_where_devices_have_long_names():
    records = [
        record(name, "x", "1", status, device=device)
        for name in ("torch_module", "jax_jit")
        for device in ("cpu", "cuda:15")
        for status in ("exact", "within-bound", "known", "fail", "not-exercised")
        for _ in range(200)
    ]
    table = shown(records, {}, width=80).split("\n\n")[1]
    assert "channel_shuffle torch@cuda:15" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_a_device_on_which_nothing_was_tested_has_one_row():
    names = ("torch_module", "jax_jit")
    nowhere = [record(name, "x", None, "unsupported", device="cuda") for name in names]
    records = [record("torch_module", "x", "1"), *nowhere]
    rows = [line.split()[:2] for line in shown(records, {}).split("\n\n")[1].splitlines()[2:]]
    assert rows == [["all@cuda", "2"], ["channel_shuffle", "torch@cpu"]]


def test_no_name_or_reason_speaks_to_the_terminal():
    loud = record("[/red]", "x", "1", "fail", reason="\x1b]0;title\x07 [bold]b[/] \u202e")
    run = hostile.run()
    for everything in (False, True):
        out = shown((loud, *run.records), {}, header=run.header, everything=everything)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "⟨U+001B⟩]0;title⟨U+0007⟩ [bold]b[/] ⟨U+202E⟩" in out
        assert "channel_shuffle/[/red]@cpu" in out


def test_a_run_in_which_nothing_was_tested_is_one_line_that_says_why():
    reason = "torch is not installed"
    nothing = [record("mine", case, None, "unsupported", reason=reason) for case in "ab"]
    assert shown(nothing, {}) == (
        f"Nothing was tested of channel_shuffle/mine@cpu: 2 unsupported: {reason}\n"
    )
    assert len(shown(nothing, {}, everything=True).splitlines()) > 5


def test_equal_errors_are_one_line_whatever_their_numbers():
    raised = "raised ValueError at mine.py:{}: cannot reshape {} elements"
    records = [
        record("a", f"x{n}", None, "error", reason=raised.format(n, n)) for n in range(9)
    ] + [record("a", "y", None, "error", reason="raised KeyError: 'f8'")]
    out = shown(records, {"conforms": False})
    assert (
        "\nmore     8 × error: raised ValueError at mine.py:…: cannot reshape … elements\n" in out
    )
    assert out.count("\nerror    ") == 2


def test_of_an_answer_that_many_mistakes_give_their_number_is_said():
    many = [failing(n, fits=tuple("abcdef"), mistake=None) for n in range(3)]
    assert "more     2 × fail, which one of 6 mistakes cannot be told\n" in shown(many, {})
