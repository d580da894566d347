"""A test of one's own against a golden, in a project that has only the package installed."""

import numpy as np
import pytest

from conformance.core.outcomes import UsageError
from conformance.testing.golden_cases import golden_cases

THREE_LINES = """
import pytest


@pytest.mark.conformance_cases("channel_shuffle:identity-probe-f32-c12-g[34]")
def test_my_shuffle(conformance_case):
    conformance_case.verify(my_shuffle(conformance_case.input("numpy"), conformance_case.groups))
"""
RIGHT = """
def my_shuffle(x, groups):
    n, c, *s = x.shape
    return x.reshape(n, groups, c // groups, *s).swapaxes(1, 2).reshape(x.shape)
"""
WRONG = RIGHT.replace("n, groups, c // groups", "n, c // groups, groups")


@pytest.fixture
def run(pytester):
    def call(*arguments, ini=""):
        pytester.makeini(f"[pytest]\n{ini}\n")
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_conformance")
        return pytester.runpytest_subprocess(*plugins, *map(str, arguments))

    return call


def test_three_lines_pass_where_the_code_is_right(run, pytester):
    pytester.makepyfile(THREE_LINES + RIGHT)
    run("--strict-markers").assert_outcomes(passed=2)


def test_where_it_is_wrong_they_fail_in_the_words_of_the_suite(run, pytester):
    pytester.makepyfile(THREE_LINES + WRONG)
    result = run()
    result.assert_outcomes(failed=2)
    out = result.stdout.str()
    assert "channel_shuffle:identity-probe-f32-c12-g3: output: 2160 of 2592 elements" in out
    assert "inverse-groups: shuffled with C/g groups where g were asked for." in out


def test_the_ini_option_means_the_cases_where_no_marker_does(run, pytester):
    pytester.makepyfile(THREE_LINES.replace("@pytest.mark.conformance_cases", "# ") + RIGHT)
    run(ini="conformance_cases = channel_shuffle:grid-c6-g2 channel_shuffle:grid-c12-*")
    result = run("-v", ini="conformance_cases = channel_shuffle:grid-c6-g*")
    result.assert_outcomes(passed=4)
    assert "test_my_shuffle[channel_shuffle:grid-c6-g2]" in result.stdout.str()


def test_neither_is_told_and_how_to_say_it(run, pytester):
    pytester.makepyfile(THREE_LINES.replace("@pytest.mark.conformance_cases", "# ") + RIGHT)
    result = run()
    assert result.ret != 0
    assert "neither its marker conformance_cases nor the ini option" in result.stdout.str()


def test_a_pattern_that_means_nothing_names_the_nearest(run, pytester):
    pytester.makepyfile(THREE_LINES.replace("identity-probe-f32-c12-g[34]", "grid-c6-g5") + RIGHT)
    result = run()
    assert "no golden case matches 'channel_shuffle:grid-c6-g5'" in result.stdout.str()
    assert "channel_shuffle:grid-c6-g" in result.stdout.str().partition("nearest: ")[2]


def test_workers_of_xdist_and_another_order_ask_the_same(run, pytester):
    pytester.makepyfile(THREE_LINES + RIGHT)
    result = run("-n", "2", "--junitxml", "out.xml")
    result.assert_outcomes(passed=2)
    assert "identity-probe-f32-c12-g3" in (pytester.path / "out.xml").read_text()


def test_the_plugin_can_be_left_out(run, pytester):
    pytester.makepyfile("def test_mine(): pass")
    run("-p", "no:conformance").assert_outcomes(passed=1)


def test_ini_options_collect_checks_of_code_from_outside(run, pytester):
    body = RIGHT.replace("reshape(x.shape)", "reshape(x.shape).copy()")
    decorator = '@conformance.implementation("channel_shuffle", framework="numpy")'
    pytester.makepyfile(mine=f"import conformance\n{decorator}{body}")
    ini = "conformance = */my_shuffle:grid-c6*\nconformance_adapters = mine.py"
    run(ini=ini).assert_outcomes(passed=4)


def test_a_timeout_that_is_no_number_is_told(run):
    result = run(ini="conformance = */numpy_reshape:grid-c6*\nconformance_timeout = soon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "conformance_timeout = 'soon': seconds are meant" in result.stderr.str()


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_an_array_of_each_framework_goes_in_and_may_come_out(framework):
    pytest.importorskip(framework)
    [case] = golden_cases("channel_shuffle:grid-c6-g2")
    x = case.input(framework)
    n, c, *spatial = x.shape
    parts = x.reshape(n, 2, c // 2, *spatial)
    case.verify(parts.swapaxes(1, 2).reshape(x.shape))
    with pytest.raises(AssertionError, match="no-transpose"):
        case.verify(x)


def test_gradients_are_verified_by_parameter_rank_by_rank():
    [case] = golden_cases("gradient_mean:linear-w2-equal-k1-f32")
    right = {
        name.rpartition("/")[2]: array
        for name, array in case.expected.items()
        if name.startswith("rank_mean/")
    }
    case.verify(right)
    case.verify([right, right])
    doubled = {name: 2 * array for name, array in right.items()}
    with pytest.raises(AssertionError, match="not-divided"):
        case.verify(doubled)
    with pytest.raises(AssertionError, match="rank 1"):
        case.verify([right, doubled])


def test_what_cannot_be_asked_so_is_no_golden_case():
    with pytest.raises(UsageError, match="no golden case matches"):
        golden_cases("channel_shuffle:groups-0")
    assert all(case.case.refusal is None for case in golden_cases("channel_shuffle:*"))


def test_every_right_answer_verifies():
    for case in golden_cases("channel_shuffle:grid-*", "channel_shuffle:dtype-*"):
        case.verify(np.asarray(case.expected["output"]))
