"""Words from outside are one line that can be seen, in every form alike; results.jsonl has all."""

import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner
from rich.console import Console

from conformance.cli import commands
from conformance.core.outside_words import KEPT, LINE, kept, one_line
from conformance.core.verdict import Evidence, Verdict
from conformance.report import changes, forms, page, terminal
from conformance.report.summary import summarize
from conformance.run.results import FILE, Run, read, record_of
from tests.harm.test_honest_verdicts import CHECK
from tests.report.records import ENVIRONMENT, record, results

FORGED = ("Conforms: 9999 exact", "::error::pwned", "## pwned", "No difference")
NASTY = {
    "forged verdict": "wrong\nConforms: 9999 exact\n",
    "carriage return": "wrong\r\nConforms: 9999 exact\rConforms: 9999 exact",
    "other line ends": "a\x0bConforms: 9999 exact\x0c::error::pwned\x85## pwned\u2028No difference",
    "workflow command": "\n::error::pwned\n  ::error::pwned\n##[error]pwned ##vso[task.x]pwned",
    "workflow command at the beginning": "::error file=a,line=1::pwned",
    "ANSI": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m\x08\x7f",
    "bidi": "a\u202e\u2066txt.exe\u2069\u200f\u061c",
    "unseen": "a\u200bb\xadc\ufeff\U000e0041\ufff9\u180e",
    "half a character": "a\ud800b\udc80\udfff",
    "no XML": "\x00\x01\ufffe\uffff",
    "markup": "</script><script>x</script><img src=x onerror=x>]]><!-- &amp; \"'>",
    "Markdown": "| a | b |\n|---|\n# head\n- list\n[l](javascript:x) `c` **b** $x$ ~~s~~ <b>",
    "rich": "[bold red]b[/] [/red] [link=x]y[/link] :smile:",
    "formula": "=cmd|' /C calc'!A0",
    "template": "{{ 7*7 }} {% raw %} ${x} %(x)s {0}",
    "long": "long " * 200_000,
    "long and unseen": "\u202e" * 50_000,
    "empty": "",
}
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unseen(text, allowed="\n"):
    return {c for c in text if unicodedata.category(c) in UNSEEN and c not in allowed}


@pytest.mark.parametrize("words", NASTY.values(), ids=NASTY)
def test_a_line_is_one_line_that_can_be_seen_and_is_not_too_long(words):
    line = one_line(words)
    assert len(line) <= LINE
    assert len(line.splitlines()) <= 1
    assert not unseen(line, "")
    assert not re.search(r"(^|\s)::[a-z]|##\w*\[", line)
    assert one_line(line) == line
    line.encode()


def test_what_names_its_place_in_code_is_left_as_it_is():
    words = "c10::Error: at::native::cat, std::vector<int>; a::b ## c, ü 🙂 한 ∂"
    assert one_line(words) == words


def run_of(words, footer):
    """A run in which every text that code under test or a file of others can choose is this."""
    records = tuple(
        record(
            words,
            f"{status} {words}",
            words or None,
            status,
            mistake=words,
            device=words,
            reason=words,
            promise=words,
            fits=(words,),
            evidence={
                "differs": {"words": words},
                "observed": [words, words],
                "done": words,
                "advice": words,
            },
        )
        for status in ("fail", "error", "crash", "timeout", "known", "unsupported", "exact")
    )
    environment = {
        **ENVIRONMENT,
        "python": words,
        "platform": words,
        "system": words,
        "packages": {words: words},
        "devices": {words: {words: words}},
        "precision": {f"matmul_bits {words}": words},
        "adapters": [words],
    }
    header = {"checks": len(records), "suite": words, "started": words, "goldens": words}
    return Run({**header, "environment": environment}, records, footer)


@pytest.fixture(params=NASTY, ids=NASTY)
def words(request):
    return NASTY[request.param]


@pytest.mark.parametrize("footer", [{}, None], ids=["whole", "cut short"])
def test_no_form_has_a_line_that_words_from_outside_made(words, footer):
    summary = summarize(run_of(words, footer))
    texts = {name: form(summary) for name, form in forms.FORMS.items()}
    texts[page.NAME] = page.text(summary)
    for everything in (False, True):
        stream = io.StringIO()
        terminal.show(summary, Console(file=stream), everything=everything)
        texts[f"terminal {everything}"] = stream.getvalue()
    for name, text in texts.items():
        text.encode()
        assert not unseen(text), name
        assert all(len(line) < 40 * LINE for line in text.split("\n")) or name == page.NAME, name
        beginnings = {line.strip() for line in text.splitlines()}
        assert not beginnings & set(FORGED), name
        assert not any(re.match(r"\s*::[a-z]|.*##\w*\[", line) for line in text.splitlines()), name
    # Each form is what its readers take, with every check in it.
    suites = ET.fromstring(texts["junit.xml"].encode())
    assert len(list(suites.iter("testcase"))) == len(summary.run.records) + (footer is None)
    rows = list(csv.DictReader(io.StringIO(texts["checks.csv"])))
    assert len(rows) == len(summary.run.records)
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    ET.fromstring(texts["badge.svg"])
    assert texts[page.NAME].count("<script") == 2
    outside_code = re.sub(r"(`+)[^`].*?[^`]?\1(?!`)", "", texts["summary.md"])
    assert "<img src=x" not in texts[page.NAME] + outside_code
    tables = [line for line in texts["summary.md"].split("\n") if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in tables[2:-9]}
    assert len(cells) <= 1


def test_a_diff_has_no_line_that_words_from_outside_made(words, tmp_path):
    before = results(tmp_path / "a", [record("a", "x", "1", reason=words)])
    after = results(tmp_path / "b", [record("a", "x", "2", "fail", reason=words)])
    lines = list(changes.lines(changes.changes(before, after), everything=True))
    assert lines[-1] == "1 got worse"
    assert not any(unseen(line, "") or len(line) > 2 * LINE for line in lines)
    assert all(line[:3] in ("A  ", "B  ", "1 c", "  c", "1 g") for line in lines)


def test_an_error_of_the_command_line_is_one_line_whatever_it_quotes(words):
    name = f"{words[:500]}.py".replace("\x00", "")
    done = CliRunner().invoke(commands, ["explain", name], catch_exceptions=True)
    assert not done.output
    from conformance.cli.options import say

    with CliRunner().isolation() as (_, err, _):
        say(f"conformance: {words}")
    line = err.getvalue().decode()
    assert line.count("\n") == 1
    assert not unseen(line)


def test_results_keep_words_whole_up_to_100_kilobytes_and_come_back(tmp_path):
    nasty = "\x00\x1b[2J\u2028\udc80::error::\n|</script>"
    verdict = Verdict("fail", nasty, evidence=Evidence(observed=(nasty,)))
    assert record_of(CHECK, verdict, 0.0).reason == nasty
    long = record_of(CHECK, Verdict("fail", "ü\udc80" * KEPT), 0.0).reason
    assert KEPT - 200 < len(long.encode("utf-8", "surrogatepass")) <= KEPT
    assert re.search(r" … \(\d+ characters more\)$", long)
    assert kept("x" * KEPT) == "x" * KEPT
    file = results(tmp_path, [record("a", "x", None, "fail", reason=words) for words in (nasty,)])
    assert read(file).records[0].reason == nasty
    assert all(json.loads(line) for line in (tmp_path / FILE).read_text().split("\n")[:-1])
