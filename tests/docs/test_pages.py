"""The pages of docs/: every snippet does what its page says, and the site builds."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from conformance.core.implementations import PROMISES
from conformance.core.verdict import STATUSES
from conformance.run.results import Record

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PLAYER = Path(__file__).parent / "pages.py"
# Pages of which other tests hold every word: tests/ci, tests/examples.
HELD_ELSEWHERE = {"mistakes.md", "third-party.md", "goldens.md"}
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name not in HELD_ELSEWHERE)


def play(page, folder):
    return subprocess.run(
        [sys.executable, PLAYER, page],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_snippet_of_a_page_does_what_the_page_says(page, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = play(page, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("snippet", "words"),
    [
        ("```python\n1 / 0\n```", "ZeroDivisionError"),
        ("```pycon\n>>> 1 + 1\n3\n```", "Expected:"),
        ("```console\n$ conformance list nothing\n```", "exit status 2, not 0"),
        ("```console\n$ conformance explain S1\nS2 …\n```", "not what it says"),
        ("```console\n$ rm -r .\n```", "'rm' is not among"),
        ("```toml\n=\n```", "TOMLDecodeError"),
        ("```sh\ntrue\n```", "a fence of 'sh', which nothing runs"),
        ("```\nno language\n```", "a fence of '', which nothing runs"),
    ],
)
def test_a_snippet_that_does_something_else_is_named_with_its_line(snippet, words, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{snippet}\n")
    done = play(page, tmp_path)
    assert done.returncode == 1
    assert "page.md:3: " in done.stderr
    assert words in done.stderr


def test_the_page_of_results_names_every_field_and_every_status():
    page = (DOCS / "reference" / "results.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([\w-]+)` ", page, re.MULTILINE))
    assert told == {one.name for one in fields(Record) if one.name != "more"} | set(STATUSES)


def test_the_terms_are_one_line_each_and_have_every_status_and_promise():
    page = (DOCS / "terms.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("- ")]
    terms = [re.fullmatch(r"- \*\*([^*]+)\*\*: .+[^ ]\.", row) for row in rows]
    assert None not in terms
    names = [term[1] for term in terms]
    assert len(set(names)) == len(names)
    assert {*STATUSES, *(promise for row in PROMISES.values() for promise in row)} <= set(names)


def test_the_tables_are_as_they_would_be_written():
    done = subprocess.run(
        [sys.executable, "-m", "ci.docs_tables", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_picture_of_the_coverage_is_what_its_command_draws(cli, tmp_path):
    image = pytest.importorskip("PIL.Image")
    cli("explain", "photographs-u8", "--picture", "fresh.png")
    fresh, kept = (
        np.asarray(image.open(file))
        for file in (tmp_path / "fresh.png", DOCS / "channel-shuffle.png")
    )
    assert np.array_equal(fresh, kept)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install mkdocs-material 'mkdocstrings[python]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_has_every_page(site):
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert {path.relative_to(DOCS) for path in DOCS.rglob("*.md")} <= built
    assert {Path("reference/cli.md"), Path("reference/clauses.md")} <= built


def test_the_site_asks_the_network_for_nothing(site):
    asks = re.compile(r"""<(?:script|link|img|iframe|source)[^>]+?(?:src|href)=["']?(https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert not [page.name for page in pages if asks.search(page.read_text(encoding="utf-8"))]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert not any(re.search(r"url\([\"']?(https?:)?//", style) for style in styles)


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.is_file():
        return False
    there = rf'id="?{re.escape(anchor)}["> ]'
    return not anchor or re.search(there, target.read_text(encoding="utf-8")) is not None


def test_examples_in_docstrings_are_shown_as_code(site):
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert "nothing_moves" in page
    assert "<blockquote>" not in page


def test_links_lead_to_files_and_anchors_that_are_there(site):
    links = {
        (page, link)
        for page in site.rglob("*.html")
        if page.name != "404.html"  # its links are those of a server's root
        for link in re.findall(r'<a[^>]*? href="([^":]+)"', page.read_text(encoding="utf-8"))
    }
    assert len(links) > 1000
    assert not sorted(
        f"{page.name} → {link}" for page, link in links if not leads_somewhere(page, link)
    )
