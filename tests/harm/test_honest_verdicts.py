"""A verdict says what was found: nothing untested conforms, nothing but the known is excused."""

import json
from dataclasses import replace
from datetime import date

import pytest

from conformance.core.checks import Check
from conformance.core.implementations import own
from conformance.core.outcomes import Fate, Raised
from conformance.run import results
from conformance.run.goldens import installed
from conformance.run.known import Known
from conformance.run.verdict import judge
from conformance.subjects import all_cases

ELSE = """
@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    raise NotImplementedError("not implemented for this")
"""
RIGHT = """
@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    n, c, *spatial = x.shape
    return x.reshape(n, groups, c // groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()
"""
TWO = RIGHT.replace("groups, c // groups", "2, c // 2").replace("def mine", "def two")
CASE = {"operation": "channel_shuffle", "name": "another"}
CASE["question"] = {"shape": [1, 6, 2], "groups": 3}
CHECK = Check(
    next(one for one in own() if one.name == "numpy_reshape"),
    next(case for case in all_cases() if case.name == "identity-probe-f32-c6-g2"),
    "cpu",
)
KNOWN = Known(("*",), ("fail inverse-groups",), date(2026, 1, 1), "it differs", "issue/1")
GOLDENS = installed()


def test_a_run_in_which_nothing_was_tested_is_no_conforming_run(cli, tmp_path):
    done = cli("run", "channel_shuffle/numpy_reshape:vjp*", "--report", tmp_path / "r")
    assert done.returncode == 3
    assert "Nothing was tested: " in done.stdout
    assert "Conforms" not in done.stdout
    footer = json.loads((tmp_path / "r" / results.FILE).read_text().splitlines()[-1])
    assert footer["conforms"] is False
    assert "nothing tested" in (tmp_path / "r" / "badge.svg").read_text()
    summary = (tmp_path / "r" / "summary.md").read_text()
    assert summary.startswith("## \u2717 Nothing was tested")
    again = cli("report", tmp_path / "r", "--to", tmp_path / "again")
    assert again.returncode == 3
    assert "Nothing was tested" in again.stdout


def test_code_that_never_answers_does_not_conform_by_what_it_refuses(cli, adapter):
    done = cli("run", "--quick", "--adapter", adapter(ELSE))
    assert done.returncode == 3, done.stdout
    assert "Nothing was tested of channel_shuffle/mine@cpu: " in done.stdout


def test_built_in_code_that_conforms_says_nothing_for_an_adapter_without_an_answer(cli, adapter):
    body = ELSE.replace('raise NotImplementedError("not implemented for this")', "raise Skip")
    body = "from conformance.core.outcomes import Unsupported as Skip\n" + body
    mine = adapter(body)
    patterns = ("channel_shuffle/mine:identity*c6-g2", "channel_shuffle/numpy_reshape:identity*g2")
    done = cli("run", "--adapter", mine, *patterns)
    assert done.returncode == 3, done.stdout
    assert "Nothing was tested of channel_shuffle/mine@cpu" in done.stdout


@pytest.mark.parametrize(
    "outcome", [Fate("crash", "SIGABRT"), Raised("ValueError", "an error"), Fate("timeout", "late")]
)
def test_an_entry_of_known_excuses_nothing_but_what_it_has_on_record(outcome):
    verdict = judge(CHECK, GOLDENS.of(CHECK.case), [outcome], [KNOWN])
    assert verdict.status in ("crash", "error", "timeout")
    assert verdict.reason.endswith("not what impls/known.toml has on record (issue/1)")
    excused = replace(KNOWN, seen=("crash *", "error *an error*", "timeout *"))
    assert judge(CHECK, GOLDENS.of(CHECK.case), [outcome], [excused]).status == "known"


def test_a_case_under_a_name_of_the_suite_is_refused(cli):
    case = json.dumps({**CASE, "name": "identity-probe-f32-c6-g2"})
    done = cli("run", "--case", case, "channel_shuffle/numpy_reshape")
    assert done.returncode == 2
    assert "the suite has a case of this name; choose another" in done.stderr


def test_the_line_that_reruns_a_check_of_an_outside_case_carries_the_case(cli, adapter, tmp_path):
    text = json.dumps(CASE)
    done = cli("run", "--adapter", adapter(TWO), "--case", text, "channel_shuffle/two")
    assert done.returncode == 1
    rerun = next(line for line in done.stdout.splitlines() if line.strip().startswith("rerun"))
    assert "--case" in rerun
    assert '"shape": [1, 6, 2]' in rerun


def test_a_gradient_of_nan_is_valid_json():
    verdict = judge(CHECK, GOLDENS.of(CHECK.case), [Fate("crash", "x")])
    record = results.record_of(CHECK, replace(verdict, error_over_bound=float("inf")), 0.0)
    assert record.error_over_bound is None
    json.dumps(record.as_object(), allow_nan=False)


@pytest.fixture
def lines(cli, tmp_path):
    done = cli("run", "channel_shuffle/numpy_reshape:identity*c6-*", "--report", tmp_path / "run")
    assert done.returncode == 0
    return (tmp_path / "run" / results.FILE).read_text().splitlines(keepends=True)


def test_a_footer_is_believed_only_with_the_checks_of_the_plan_each_once(lines, cli, tmp_path):
    header, *checks, footer = lines
    counts = {"exact": len(checks) - 1}
    short = json.dumps({**json.loads(footer), "counts": counts}) + "\n"
    damaged = {
        "is there twice": [header, checks[0], *checks[:-1], footer],
        "the header plans": [header, *checks[:-1], short],
        "are not those that the header plans": [
            header,
            *checks[:-1],
            checks[-1].replace("identity-probe", "identity-prose"),
            footer,
        ],
    }
    for words, content in damaged.items():
        file = tmp_path / "results.jsonl"
        file.write_text("".join(content))
        done = cli("report", file, "--to", tmp_path / "to")
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("seconds", ["nan", "inf", "2147484", "-1", "0"])
def test_seconds_that_no_clock_can_wait_are_refused(cli, seconds):
    done = cli("run", "channel_shuffle/numpy_reshape:identity*c6-g2", "--timeout", seconds)
    assert done.returncode == 2
    assert "--timeout" in done.stderr
