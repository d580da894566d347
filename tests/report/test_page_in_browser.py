"""The page as a reader has it: in a headless Chromium, out of a file."""

import shutil
from pathlib import Path

import pytest

from conformance.report import page
from conformance.report.summary import summarize
from conformance.run.results import FILE, Run, read
from tests.report import hostile
from tests.report.records import ENVIRONMENT, record, results

WRONG = Path(__file__).parents[2] / "examples" / "wrong_shuffle.py"
ID = "channel_shuffle/wrong_inverse@cpu:identity-probe-f32-c12-g3"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a wrong implementation and two right ones, made by the command line."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("page")
    names, families = (
        ("wrong_inverse", "numpy_*"),
        ("identity-probe-*", "grid-*", "photographs-u8", "vjp-f32-*"),
    )
    patterns = [f"channel_shuffle/{name}:{family}" for name in names for family in families]
    call = [sys.executable, "-m", "conformance", "run", "--adapter", WRONG, *patterns]
    done = subprocess.run([*call, "--report", folder], capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder / page.NAME)
    return folder


@pytest.fixture
def opened(browser):
    """Opens a page; at the end nothing was asked of a network, and nothing went wrong in it."""
    contexts, requests, complaints = [], [], []

    def open_(file, address="", **options):
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("request", lambda request: requests.append(request.url))
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(f"{file.as_uri()}{address}")
        shown.wait_for_selector("html[data-ready]", timeout=20_000)
        return shown

    yield open_
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert complaints == []


def written(folder, run):
    file = folder / page.NAME
    file.write_text(page.text(summarize(run)), encoding="utf-8", errors="backslashreplace")
    return file


def test_it_shows_the_counts_of_the_footer(report, opened):
    shown = opened(report / page.NAME)
    told = shown.eval_on_selector_all(
        ".tile .count", "all => all.map(one => [one.dataset.status, Number(one.textContent)])"
    )
    run = read(report)
    assert dict(told) == run.footer["counts"]
    assert shown.inner_text("#shown").startswith(f"{len(run.records)} of {len(run.records)} checks")
    assert shown.title().startswith("Does not conform")


def test_a_filter_leaves_what_it_says_and_the_address_keeps_it(report, opened):
    shown = opened(report / page.NAME)
    shown.select_option("[name=status]", "bad")
    shown.fill("[name=q]", "grid-c12")
    wanted = [r for r in read(report).records if not r.conforms and "grid-c12" in r.id]
    assert shown.locator("#list li").count() == len(wanted) > 0
    again = opened(report / page.NAME, shown.evaluate("location.hash"))
    assert again.locator("#list li").count() == len(wanted)
    again.click("#filters [type=reset]")
    # Not wait_for_function: it polls by evaluating a string, which the page's policy forbids.
    again.locator("#list li").nth(99).wait_for()
    assert again.locator("#list li").count() == 100


def test_a_cell_of_the_matrix_lists_its_checks(report, opened):
    shown = opened(report / page.NAME)
    cell = shown.locator("#matrix a[title^='wrong_inverse@cpu, grid']")
    assert cell.inner_text() == f"✗ {_failed(report, 'grid-')}"
    cell.click()
    assert all("wrong_inverse" in text for text in shown.locator("#list .id").all_inner_texts())


def _failed(report, start):
    return sum(not r.conforms and r.case.startswith(start) for r in read(report).records)


def test_a_deep_link_opens_one_check_in_words_and_pictures(report, opened):
    shown = opened(report / page.NAME, f"#{ID}")
    assert not shown.is_visible("#overview")
    text = shown.inner_text("#check")
    for told in (
        "Looks like inverse-groups",
        "Write instead",
        "Given: 10 of 12 channels stand wrong",
        "its SHA-256 is the recorded one",
        "float32 (4, 12, 6, 9)",
        "Output channel k is input channel",
        "def wrong_inverse(x, groups):",
        "def numpy_",
    ):
        assert told in text
    assert shown.locator(".permutation").count() == 2
    shown.keyboard.press("Escape")
    shown.wait_for_selector("#overview")
    assert not shown.is_visible("#check")


def test_an_unknown_link_says_so(report, opened):
    shown = opened(report / page.NAME, "#channel_shuffle/nobody@cpu:x")
    assert "has no check channel_shuffle/nobody@cpu:x" in shown.inner_text("#shown")


def test_the_rerun_line_is_copied(report, opened):
    shown = opened(report / page.NAME, f"#{ID}", permissions=["clipboard-read", "clipboard-write"])
    shown.click(".rerun button")
    shown.wait_for_selector("text=Copied")
    copied = shown.evaluate("navigator.clipboard.readText()")
    assert copied == read(report).rerun(ID)


def test_everything_is_reached_by_keyboard(report, opened):
    shown = opened(report / page.NAME)
    shown.keyboard.press("/")
    shown.keyboard.type("identity-probe-f32-c12-g3")
    assert shown.locator("#list li").count() == 3
    shown.focus("#list a")
    shown.keyboard.press("Enter")
    shown.wait_for_selector("#check h1")
    assert shown.evaluate("location.hash") == f"#{ID}"
    shown.keyboard.press("ArrowRight")
    shown.wait_for_url(lambda address: not address.endswith(f"#{ID}"))
    shown.keyboard.press("Escape")
    shown.wait_for_selector("#overview")
    shown.wait_for_selector("#list a:focus")  # The list is drawn before it takes the focus.
    shown.focus("#matrix a")
    shown.keyboard.press("ArrowRight")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert shown.evaluate(focused).startswith("wrong_inverse@cpu, grid")
    assert shown.locator("#matrix a[tabindex='0']").count() == 1


def test_two_quick_keys_leave_the_focus_where_the_reader_was(report, opened):
    shown = opened(report / page.NAME, f"#{ID}")
    # Both addresses are set before the page hears of the first, as quick keys do.
    shown.evaluate("location.hash = 'checks'; location.hash = '';")
    shown.wait_for_selector("#list a:focus")
    shown.evaluate("new Promise((done) => setTimeout(done))")  # Both events have been handled.
    assert shown.locator("#list a:focus").count() == 1


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("address", ["", f"#{ID}"])
def test_nothing_is_wider_than_the_window(report, opened, width, address):
    shown = opened(report / page.NAME, address, viewport={"width": width, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", f"#{ID}"])
def test_axe_finds_nothing(report, opened, scheme, address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown = opened(report / page.NAME, address, color_scheme=scheme, bypass_csp=True)
    if not address:
        shown.click("#agreement summary")
    found = axe.Axe().run(shown).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []


def test_nothing_is_executed_from_data(tmp_path, opened):
    run = hostile.run()
    file = written(tmp_path, run)
    shown = opened(file)
    assert shown.locator("#list li").count() == len(run.records)
    for number in range(len(run.records)):
        shown.locator("#list a").nth(number).click()
        shown.wait_for_selector("#check h1")
        if "touch hacked" in shown.inner_text("#check h1"):
            assert run.rerun(run.records[3].id).split(" --adapter")[0] in shown.inner_text(".rerun")
        shown.keyboard.press("Escape")
        shown.wait_for_selector("#overview")
    assert shown.evaluate("window.hacked") is None
    assert "\u202e" not in shown.inner_text("body")


def test_runs_side_by_side_have_rows_of_their_own(tmp_path, opened, cli):
    for name in ("2.9", "2.13"):
        status = "fail" if name == "2.9" else "exact"
        results(tmp_path / name, [record("a", "x", name, status)], packages={"torch": name})
    cli("report", f"2.9/{FILE}", f"2.13/{FILE}", "--to", "both")
    shown = opened(tmp_path / "both" / page.NAME)
    rows = shown.locator("#matrix tbody th").all_inner_texts()
    assert rows == ["a@cpu R1", "a@cpu R2"]
    assert "R1 torch 2.9" in shown.inner_text("header")


def test_a_run_of_nothing_and_a_huge_one_open(tmp_path, opened):
    empty = Run({"checks": 3, "environment": ENVIRONMENT}, (), None)
    shown = opened(written(tmp_path, empty))
    assert "Cut short after 0 of 3 checks" in shown.inner_text("h1")
    many = tuple(
        record(f"a{i}", f"case-{j}", "1", "fail" if j % 9 == 0 else "exact", reason=f"{i} {j}")
        for i in range(100)
        for j in range(1000)
    )
    folder = tmp_path / "huge"
    folder.mkdir()
    shown = opened(written(folder, Run({**empty.header, "checks": 100_000}, many, {})))
    assert shown.inner_text("#shown") == "100000 of 100000 checks, the first 100 shown"
