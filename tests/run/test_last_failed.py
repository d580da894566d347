"""What failed is asked again, and the verdict on the whole run is not lost by it."""

import pytest

from conformance.run.results import read

RIGHT = "x.reshape(n, g, c // g, *s).swapaxes(1, 2).reshape(x.shape).copy()"
BODY = """
@conformance.implementation("channel_shuffle", framework="numpy")
def first(x, groups):
    (n, c, *s), g = x.shape, groups
    return {}

@conformance.implementation("channel_shuffle", framework="numpy")
def second(x, groups):
    (n, c, *s), g = x.shape, groups
    return {}
"""
ASKED = ("*/first:grid-c6-*", "*/second:grid-c6-*")


@pytest.fixture
def failed(cli, adapter, tmp_path):
    """A run of two functions of which one is wrong; returns its folder."""
    adapter(BODY.format("x.copy()", RIGHT))
    assert cli("run", "--adapter", "mine.py", *ASKED).returncode == 1
    return tmp_path / "conformance-report"


def wrong(folder):
    return [record.id for record in read(folder).records if not record.conforms]


def test_what_failed_is_asked_again_as_it_was_asked(cli, failed):
    before = (failed / "results.jsonl").read_bytes()
    done = cli("run", "--last-failed")
    assert done.returncode == 1, done.stderr
    again = read(failed / "last-failed")
    assert [record.id for record in again.records] == wrong(failed)
    assert (failed / "results.jsonl").read_bytes() == before


def test_what_is_mended_does_not_make_the_whole_run_green(cli, failed, adapter):
    adapter(BODY.format(RIGHT, RIGHT))
    count, all_ = len(wrong(failed)), len(read(failed).records)
    done = cli("run", "--last-failed")
    assert done.returncode == 0
    assert f"Conforms, what failed last: {count} of {all_} checks: {count} exact" in done.stdout
    assert "fail" in (failed / "badge.svg").read_text()
    badge = (failed / "last-failed" / "badge.svg").read_text()
    assert f"{count} of what failed conform" in badge
    assert "#0c634c" not in badge  # The green of a whole run.
    assert cli("report", "conformance-report", "--to", "again").returncode == 1


def test_only_what_still_fails_is_asked_the_next_time(cli, failed, adapter):
    # Right for two groups alone.
    adapter(BODY.format(f"{RIGHT} if g == 2 else x.copy()", RIGHT))
    assert cli("run", "--last-failed").returncode == 1
    left = wrong(failed / "last-failed")
    assert 0 < len(left) < len(wrong(failed))
    assert cli("run", "--last-failed").returncode == 1
    assert [record.id for record in read(failed / "last-failed").records] == left
    adapter(BODY.format(RIGHT, RIGHT))
    assert cli("run", "--last-failed").returncode == 0
    done = cli("run", "--last-failed")  # What conformed two runs ago counts, too.
    assert done.returncode == 2
    assert "conforms by now; leave the option out" in done.stderr


def test_a_pattern_chooses_among_what_failed(cli, failed):
    some = cli("run", "--last-failed", "*/first:*g3")
    assert some.returncode == 1
    assert {r.case for r in read(failed / "last-failed").records} == {"grid-c6-g3"}
    none = cli("run", "--last-failed", "*/second")
    assert (none.returncode, none.stdout) == (2, "")
    assert "nothing that failed in conformance-report is '*/second'" in none.stderr


def test_a_new_run_takes_what_was_asked_of_the_old_one_away(cli, failed, adapter):
    adapter(BODY.format(RIGHT, RIGHT))
    cli("run", "--last-failed")
    adapter(BODY.format("x.copy()", RIGHT))
    assert cli("run", "--adapter", "mine.py", *ASKED).returncode == 1
    assert not list((failed / "last-failed").glob("[a-z]*.*"))
    assert cli("run", "--last-failed").returncode == 1


def test_a_merge_with_a_part_says_that_it_is_one(cli, failed, adapter):
    adapter(BODY.format(RIGHT, RIGHT))
    cli("run", "--last-failed")
    cli("run", "channel_shuffle/numpy_reshape:grid-c6-*", "--report", "other")
    parts = ("conformance-report/last-failed", "other")
    assert "Conforms, what failed last" in cli("report", *parts, "--to", "both").stdout


def test_where_everything_conforms_there_is_nothing_to_ask_again(cli):
    cli("run", "channel_shuffle/numpy_reshape:grid-c6-g2")
    done = cli("run", "--last-failed", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "everything conforms in conformance-report" in done.stderr
