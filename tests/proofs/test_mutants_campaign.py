"""Mutants are asked until a case sees them; what none sees is equivalent, or a case is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache

import pytest

from conformance.core.checks import asks
from conformance.core.implementations import own
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder
from conformance.core.verdict import Verdict
from conformance.proofs.mutants import ledger
from conformance.proofs.mutants.generation import mutants
from conformance.proofs.mutants.ledger import Ledger, Measured, score
from conformance.proofs.mutants.measuring import Outcome, draw, measure, right_cases
from conformance.run.examiner import Examiner
from conformance.run.goldens import OnTheFly
from conformance.subjects import all_cases

[RESHAPE] = [one for one in own() if one.name == "numpy_reshape"]
SEEN_BY = {  # one of each fate, by what is changed
    "if x.shape[0] > 2: return x": "killed",
    "channels // groups → groups // channels": "stillborn",
    "groups <= 0 → groups < 0": "equivalent",
    "parts.swapaxes(1, 2) → parts": "killed",
}


@pytest.fixture(scope="module")
def examine():
    examiner = Examiner(OnTheFly(), (), 20)
    yield lambda check: examiner.examine(check)[0]
    examiner.close()


@cache
def cases():
    """A case of every fourth, of those that a copy in NumPy is asked."""
    return [case for case in all_cases() if asks(case, RESHAPE) and not case.on_the_fly][::4]


def test_the_fate_of_a_mutant_is_what_the_cases_say(examine, tmp_path):
    found = {mutant.words: mutant for mutant in mutants(RESHAPE)}
    for number, (words, fate) in enumerate(SEEN_BY.items()):
        changed = found[words].written(tmp_path, number)
        outcome = measure(
            changed, cases(), lambda: draw("channel_shuffle", "copy", "numpy", 20), examine
        )
        assert outcome.fate == fate, words


def test_what_only_a_drawn_case_sees_has_survived(examine, tmp_path):
    [mutant] = [m for m in mutants(RESHAPE) if m.words == "parts.swapaxes(1, 2) → parts"]
    blind = [case for case in cases() if case.question.groups == 1][:2]
    changed = mutant.written(tmp_path, 0)
    outcome = measure(changed, blind, lambda: draw("channel_shuffle", "copy", "numpy", 20), examine)
    assert outcome.fate == "survived"
    assert outcome.case.startswith("fuzz-")
    assert outcome.asked > len(blind)


def test_right_code_alone_is_changed(examine, tmp_path):
    assert right_cases(RESHAPE, cases()[:5], examine) == cases()[:5]
    [mutant] = [m for m in mutants(RESHAPE) if m.words == "parts.swapaxes(1, 2) → parts"]
    wrong = mutant.written(tmp_path, 0)
    told = [case for case in cases() if case.family == "identity-probe"]
    assert told
    with pytest.raises(UsageError, match=r"numpy_reshape does not conform \(\S+ in identity-"):
        right_cases(wrong, told, examine)


def test_who_answers_nothing_is_not_measured():
    with pytest.raises(UsageError, match="numpy_reshape answers nothing here: it is too big"):
        right_cases(RESHAPE, cases()[:3], lambda _: Verdict("unsupported", "it is too big"))


def test_an_adapter_that_imports_what_lies_beside_it_is_measured(cli, adapter):
    adapter("def order(c, g):\n    return g, c // g\n", "helper.py")
    adapter(
        """
from helper import order

@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    n, c, *s = x.shape
    if groups <= 0 or c % groups:
        raise ValueError("groups")
    return x.reshape(n, *order(c, groups), *s).swapaxes(1, 2).reshape(x.shape).copy()
"""
    )
    done = cli("mutants", "--adapter", "mine.py", "--sample", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "channel_shuffle: 0 of 0" not in done.stdout


def test_drawn_cases_are_the_same_for_everybody():
    assert draw("channel_shuffle", "copy", "numpy", 5) == draw(
        "channel_shuffle", "copy", "numpy", 5
    )
    assert len(set(draw("channel_shuffle", "copy", "numpy", 50))) == 50


OLD = {"channel_shuffle": "old", "gradient_mean": "any"}
NEW = {"channel_shuffle": "new", "gradient_mean": "other"}


def test_what_was_measured_is_read_again_with_the_same_goldens_of_its_operation_alone(tmp_path):
    first, second, *_ = mutants(RESHAPE)
    outcome = Outcome("killed", "some-case", "fail", "omitted", 3)
    Ledger(ReportFolder(tmp_path), OLD).add(first, Outcome("equivalent", asked=7))
    Ledger(ReportFolder(tmp_path), NEW).add(first, outcome)
    again = Ledger(ReportFolder(tmp_path), NEW)
    assert (again.outcome(first), again.outcome(second)) == (outcome, None)
    assert ledger.read(tmp_path) == [Measured(first.id, first.kind, outcome)]


def test_a_line_that_was_not_ended_is_as_if_it_were_not_there(tmp_path):
    first, *_ = mutants(RESHAPE)
    Ledger(ReportFolder(tmp_path), NEW).add(first, Outcome("killed"))
    file = tmp_path / ledger.FILE
    file.write_text(file.read_text() + '{"suite": "ne')
    assert Ledger(ReportFolder(tmp_path), NEW).outcome(first) == Outcome("killed")


def test_a_file_that_is_something_else_is_named(tmp_path):
    (tmp_path / ledger.FILE).write_text("no JSON\n")
    with pytest.raises(UsageError, match=ledger.FILE):
        ledger.read(tmp_path)


def test_the_score_counts_those_that_answer_and_answer_wrong():
    fates = ("killed", "killed", "killed", "survived", "equivalent", "stillborn")
    found = score(Measured("o/i:1: a → b", "sign", Outcome(fate)) for fate in fates)
    assert (found.made, found.share) == (6, 0.75)


def test_the_command_line_measures_goes_on_where_it_was_and_tells_a_survivor(cli, tmp_path):
    call = ("mutants", "channel_shuffle/numpy_definition", "--sample", "2")
    first = cli(*call)
    assert first.returncode == 0, first.stderr
    assert "2 raise on the first case" in first.stdout
    file = tmp_path / "conformance-report" / ledger.FILE
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(entries) == 2
    entries[0] |= {"fate": "survived", "case": "fuzz-f32-1x4x1-g2"}
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    again = cli(*call)
    assert again.returncode == 1
    assert "no case of the suite sees it; fuzz-f32-1x4x1-g2 does" in again.stdout
    assert len(file.read_text().splitlines()) == 2


def test_ctrl_c_ends_it_with_3_and_keeps_what_was_measured(tmp_path):
    call = [
        sys.executable,
        "-m",
        "conformance",
        "mutants",
        "channel_shuffle/numpy_*",
        "--jobs",
        "1",
    ]
    going = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)
    file = tmp_path / "conformance-report" / "mutants.jsonl"
    for _ in range(1200):
        if file.exists():
            break
        time.sleep(0.1)
    going.send_signal(signal.SIGINT)
    out, _ = going.communicate(timeout=60)
    assert going.returncode == 3
    assert "Cut short: " in out
    assert ledger.read(tmp_path / "conformance-report")


def test_who_is_nobody_is_told(cli):
    done = cli("mutants", "channel_shuffle/nobody")
    assert done.returncode == 2
    assert "no check matches 'channel_shuffle/nobody'" in done.stderr
