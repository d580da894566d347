from conformance.report.merging import merge
from conformance.report.step_summary import LIMIT, code, plain
from conformance.report.step_summary import text as text_of
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report.records import record, results

HEADER = {"checks": 1, "environment": {"adapters": []}}


def text(run, **limit):
    return text_of(summarize(run), **limit)


def test_the_first_line_is_the_verdict():
    good, bad = record("a", "x", "1"), record("a", "y", "1", "fail", reason="wrong")
    assert text(Run(HEADER, (good,), {})).startswith("## ✓ Conforms: 1 check")
    assert text(Run(HEADER, (good, bad), {})).startswith("## ✗ Does not conform: 1 of 2")
    assert text(Run(HEADER, (good,))).startswith("## ✗ Cut short after 1 of 1 checks")


def test_a_missing_shard_is_the_verdict(tmp_path):
    file = results(tmp_path / "a", [record("a", "x", "1")], shard="1/2")
    assert text(merge([file])).startswith("## ✗ Not whole (R1: shard 2/2 is missing)")


def test_failures_have_their_reason_and_rerun_line():
    out = text(Run(HEADER, (record("a", "y", "1", "fail", reason="wrong"),), {}))
    assert "- **fail** `channel_shuffle/a@cpu:y`: wrong" in out
    assert "`conformance run channel_shuffle/a@cpu:y`" in out


def test_each_implementation_that_fails_has_its_sentence():
    bad = record("a", "y", "1", "fail", fits=("inverse-groups",))
    out = text(Run(HEADER, (bad,), {}))
    assert (
        "- channel\\_shuffle/a@cpu fails 1 of 1 checks; it is consistent with inverse-groups" in out
    )


def test_it_stays_below_the_limit_of_github_and_says_what_it_leaves_out():
    records = tuple(
        record(f"a{i}", str(j), None, "unsupported", reason=f"{i}-{j} " + "ü" * 4000)
        for i in range(30)
        for j in range(50)
    )
    out = text(Run(HEADER, records, {}))
    assert len(out.encode()) < LIMIT
    small = text(Run(HEADER, records, {}), limit=5000)
    assert len(small.encode()) < 5000
    assert "lines more: results.jsonl has everything" in small


def test_nothing_in_a_reason_is_markup():
    nasty = "a|b <script>x</script>\n# head\n`code` [l](u) \u202e *b*"
    out = text(Run(HEADER, (record("a", "y", "1", "fail", reason=nasty),), {}))
    assert "<script>" not in out
    assert "\u202e" not in out
    assert "\n# head" not in out
    assert plain("a|b*") == "a\\|b\\*"
    assert code("a`b``c") == "```a`b``c```"
