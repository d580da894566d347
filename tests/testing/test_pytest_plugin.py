"""`pytest --conformance` in a project that is not ours."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

WRONG = Path(__file__).parents[2] / "examples" / "wrong_shuffle.py"


@pytest.fixture
def run(pytester):
    pytester.makeini("[pytest]\n")

    def call(*arguments):
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_conformance")
        return pytester.runpytest_subprocess(*plugins, *map(str, arguments))

    return call


def test_an_empty_folder_gets_one_item_a_check(run):
    result = run("--conformance=channel_shuffle/numpy_reshape:grid-c6*", "-v")
    result.assert_outcomes(passed=4)
    assert "channel_shuffle/numpy_reshape@cpu:grid-c6-g2" in result.stdout.str()


def test_nothing_is_collected_without_the_option(run):
    assert run().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_node_id_is_the_checks_id(run):
    result = run("--conformance=*/numpy_reshape:grid-c6*", "--collect-only", "-q")
    ids = [line for line in result.outlines if line.startswith("channel_shuffle")]
    assert ids == [f"channel_shuffle/numpy_reshape@cpu:grid-c6-g{g}" for g in (1, 2, 3, 6)]


def test_a_projects_own_tests_run_beside_the_checks(run, pytester):
    pytester.makepyfile("def test_mine(): pass")
    run("--conformance=*/numpy_reshape:grid-c6*").assert_outcomes(passed=5)


def test_k_chooses_among_checks(run):
    run("--conformance=*/numpy_reshape:grid-c6*", "-k", "grid-c6-g2").assert_outcomes(
        passed=1, deselected=3
    )


def test_what_is_chosen_and_what_is_left_out_are_counted(run, pytester):
    pytester.makepyfile("def test_mine(): pass")
    result = run("--conformance=*/numpy_reshape:grid-c6*", "-k", "g2 or g3")
    result.stdout.fnmatch_lines(["collected 5 items / 3 deselected / 2 selected"])
    result = run("--conformance=*/numpy_reshape:grid-c6*", "-k", "g2", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["1/5 tests collected (4 deselected)*"])


def test_what_is_unsupported_is_skipped_with_its_reason(run):
    result = run("--conformance=*/numpy_reshape:vjp-f32-c6-g2", "-rs")
    result.assert_outcomes(skipped=1)
    assert "unsupported: numpy has no derivatives" in result.stdout.str()


def test_a_failure_speaks_the_words_of_the_suite(run):
    arguments = ["--conformance=*/wrong_inverse:identity-probe*", "--conformance-adapter", WRONG]
    result = run(*arguments)
    result.assert_outcomes(failed=12)
    out = result.stdout.str()
    assert "inverse-groups: shuffled with C/g groups" in out
    assert "conformance run channel_shuffle/wrong_inverse@cpu:identity-probe-f32-c12-g3" in out
    assert "Traceback" not in out
    run(*arguments, "-x").assert_outcomes(failed=1)


def test_xdist_shares_the_checks_out(run):
    run("--conformance=*/numpy_*:grid-c6*", "-n", "2").assert_outcomes(passed=8)


def test_junit_has_a_test_case_a_check(run, pytester):
    run("--conformance=*/numpy_reshape:grid-c6*", "--junitxml=out.xml")
    cases = ElementTree.parse(pytester.path / "out.xml").getroot().iter("testcase")
    assert len([case.get("name") for case in cases]) == 4


def test_a_wrong_pattern_is_a_usage_error(run):
    result = run("--conformance=channel_shufle")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no check matches" in result.stderr.str()


def test_an_id_is_understood_where_it_is_given_back(run):
    check = "channel_shuffle/numpy_reshape@cpu:grid-c6-g2"
    result = run(check, "-v")
    result.assert_outcomes(passed=1)
    assert check in result.stdout.str()


def test_an_id_that_is_printed_in_a_folder_below_is_understood_there(run, pytester, monkeypatch):
    monkeypatch.chdir(pytester.mkdir("below"))
    failed = run("--conformance=*/wrong_inverse:grid-c6-g2", f"--conformance-adapter={WRONG}")
    [line] = [line for line in failed.outlines if line.startswith("FAILED")]
    printed = line.split()[1]
    assert printed == "../channel_shuffle/wrong_inverse@cpu:grid-c6-g2"
    run(printed, f"--conformance-adapter={WRONG}").assert_outcomes(failed=1)


def test_checks_have_a_marker(run, pytester):
    pytester.makepyfile("def test_mine(): pass")
    arguments = ["--conformance=*/numpy_reshape:grid-c6-g2", "--strict-markers"]
    run(*arguments, "-m", "conformance").assert_outcomes(passed=1, deselected=1)
    run(*arguments, "-m", "not conformance").assert_outcomes(passed=1, deselected=1)


def test_the_mistake_comes_first_in_the_short_summary(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # Nothing stands there on a narrow terminal.
    arguments = ["--conformance=*/wrong_inverse:identity-probe-f32-c12-g3"]
    result = run(*arguments, "--conformance-adapter", WRONG)
    [line] = [line for line in result.outlines if line.startswith("FAILED")]
    assert " - inverse-groups: " in line


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_it_ends_with_the_verdict_on_each_implementation(run, workers):
    patterns = ("*/wrong_inverse:identity-probe-f32-c12-g3", "*/numpy_reshape:vjp-f32-c6-g2",
                "*/numpy_reshape:grid-c6-g*", "*/numpy_definition:vjp-f32-c6-g2")  # fmt: skip
    arguments = [f"--conformance={pattern}" for pattern in patterns]
    out = run(*arguments, "--conformance-adapter", WRONG, *workers).stdout.str()
    head = "channel_shuffle/"
    assert f"{head}wrong_inverse@cpu: does not conform, 1 of 1 checks fail: inverse-groups 1" in out
    assert f"{head}numpy_reshape@cpu: conforms: 4 checks, 1 not tested" in out
    assert f"{head}numpy_definition@cpu: nothing was tested: 1 check" in out


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_the_verdict_of_a_quick_session_says_that_it_is_quick(run, pytester, workers):
    pytester.makepyprojecttoml("[tool.conformance]\nquick = true\n")
    result = run("--conformance=channel_shuffle/numpy_definition", *workers)
    out = result.stdout.str()
    assert re.search(r"numpy_definition@cpu: conforms, quick \(\d+ of \d+ cases\): \d+ checks", out)


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_session_in_which_nothing_was_tested_is_no_success(run, workers):
    result = run("--conformance=*/numpy_reshape:vjp-f32-c6-g2", *workers)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_tests_in_a_folder_of_the_suites_name_are_no_checks(run, pytester):
    folder = pytester.mkdir("conformance")
    (folder / "test_mine.py").write_text("def test_mine(): assert False\n")
    assert "does not conform" not in run().stdout.str()
