"""A quick run asks few cases, says so, and no known mistake passes it."""

import json

from conformance.core.checks import asks
from conformance.core.implementations import own
from conformance.proofs.quick_cover import kinds, takes
from conformance.run.quick import quick_cases
from conformance.run.results import read
from conformance.subjects import all_cases


def test_a_quick_run_says_how_many_of_how_many_cases_got_an_answer(cli, tmp_path):
    done = cli("run", "--quick", "channel_shuffle/numpy_reshape")
    assert done.returncode == 0, done.stderr
    (reshape,) = (declared for declared in own() if declared.name == "numpy_reshape")
    whole = [case.id for case in all_cases() if asks(case, reshape)]
    asked = quick_cases() & set(whole)
    report = tmp_path / "conformance-report"
    answered = sum(record.is_tested for record in read(report).records)
    assert 0 < answered < len(asked)
    assert f"Conforms, quick: {answered} of {len(whole)} cases: " in done.stdout
    for form in ("summary.md", "index.html", "badge.svg", "junit.xml"):
        assert "quick" in (report / form).read_text(encoding="utf-8"), form
    header = json.loads((report / "results.jsonl").read_text().splitlines()[0])
    assert header["quick"] == {"asked": len(asked), "of": len(whole)}


def test_of_a_shuffle_of_images_a_quick_run_kills_each_mistake_that_a_case_of_images_kills():
    images = [kind for kind in kinds() if kind.ndim == (4,)]
    assert {kind.framework for kind in images} == {"numpy", "torch", "jax"}
    quick = [case for case in all_cases() if case.id in quick_cases()]
    for kind in images:
        clauses = {clause for case in quick if takes(kind, case) for clause in case.clauses}
        assert clauses >= {"S1", "S7"}, kind
        if kind.promise == "copy":
            assert clauses >= {"S11", "S13"}, kind


def test_the_example_of_a_mistake_fails_a_quick_run_by_name(cli, adapter):
    body = (
        '@conformance.implementation("channel_shuffle", framework="numpy")\n'
        "def mine(x, groups):\n"
        "    n, c, *spatial = x.shape\n"
        "    return x.reshape(n, c // groups, groups, *spatial).swapaxes(1, 2).reshape(x.shape)\n"
    )
    done = cli("run", "--quick", "--adapter", adapter(body))
    assert done.returncode == 1
    assert "inverse-groups" in done.stdout


def test_a_report_of_a_quick_run_is_none_of_a_whole_one_also_beside_another_run(cli, tmp_path):
    cli("run", "--quick", "channel_shuffle/numpy_reshape", "--report", "few")
    cli("run", "channel_shuffle/numpy_definition:grid-c6-g2", "--report", "other")
    for files in (["few"], ["few", "other"]):
        done = cli("report", *files, "--to", "again")
        assert "Conforms, quick: " in done.stdout, done.stdout + done.stderr
