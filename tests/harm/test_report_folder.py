"""The report folder is of one run at a time, and shows nothing that this run did not find."""

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

from conformance.core.interrupts import interruptible, uninterrupted
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import IGNORED, LOCK, REPORTS, RESULTS, Lines, ReportFolder
from conformance.run import caches
from conformance.run.results import Writer, read
from tests.report.records import record, results
from tests.sampling import IS_FULL

# A run of the command line takes seconds: all ways are tried where there is time.
SENT = (signal.SIGTERM, signal.SIGHUP) if IS_FULL else (signal.SIGTERM,)
ENDS = (" 2>&1 | head -1", " | true", " 2>/dev/full", " >&-") if IS_FULL else (" 2>&1 | head -1",)
RIGHT = "channel_shuffle/numpy_reshape:identity*c6-*"
SLOW = """
import time

@conformance.implementation("channel_shuffle", framework="numpy")
def slow(x, groups):
    time.sleep(0.3)
    n, c, *s = x.shape
    return x.reshape(n, groups, c // groups, *s).swapaxes(1, 2).reshape(x.shape).copy()
"""


def asked_in(folder):
    """How many checks of the slow run are there; a run before may have left others."""
    file = folder / RESULTS
    return file.read_text().count('"implementation": "slow"') if file.exists() else 0


@pytest.fixture
def slow(adapter, tmp_path):
    """A run of 12 checks, of 0.3 s each, that has begun to write into a folder."""
    started = []

    def start(folder):
        pattern = "channel_shuffle/slow:identity*"
        call = ["run", "--adapter", adapter(SLOW), pattern, "--jobs", 1, "--report", folder]
        process = subprocess.Popen(
            [sys.executable, "-m", "conformance", *map(str, call)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        late = time.monotonic() + 60
        while asked_in(folder) < 2:
            assert process.poll() is None
            assert time.monotonic() < late
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_run_into_the_folder_is_refused_and_the_first_is_whole(cli, tmp_path):
    words = "conformance: report folder r: another run writes to it; choose another by --report"
    with ReportFolder(tmp_path / "r") as folder, Writer(folder, {"checks": 2}) as writer:
        writer.add(record("first", "x", "1"))
        for call in (["run", RIGHT, "--report", "r"], ["report", "r", "--to", "r"]):
            second = cli(*call)
            assert (second.returncode, second.stdout) == (2, "")
            assert second.stderr.splitlines()[-1] == words
        writer.add(record("first", "y", "1"))
        writer.finish()
    assert [one.implementation for one in read(tmp_path / "r").records] == ["first", "first"]
    assert cli("run", RIGHT, "--report", "r").returncode == 0


@pytest.mark.parametrize("number", SENT, ids=lambda number: number.name)
def test_a_run_that_is_told_to_end_is_cut_short_in_every_form(cli, slow, tmp_path, number):
    results(tmp_path / "r", [record("a", "x", "1")])
    for name in REPORTS:
        (tmp_path / "r" / name).write_text("green")
    process = slow(tmp_path / "r")
    process.send_signal(number)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "Cut short after" in out
    assert "Traceback" not in err
    report = tmp_path / "r"
    assert read(report).footer is None
    assert "cut short after" in (report / "badge.svg").read_text()
    assert 'errors="1"' in (report / "junit.xml").read_text()
    assert (report / "summary.md").read_text().startswith("## ✗ Cut short after")
    again = cli("report", "r", "--to", "again")
    assert again.returncode == 3
    assert "Conforms" not in again.stdout


def test_a_run_that_is_killed_leaves_no_form_of_the_run_before(cli, slow, tmp_path):
    results(tmp_path / "r", [record("a", "x", "1")])
    for name in REPORTS:
        (tmp_path / "r" / name).write_text("green")
    process = slow(tmp_path / "r")
    process.kill()
    process.communicate()
    assert not {path.name for path in (tmp_path / "r").iterdir()} & set(REPORTS)
    assert read(tmp_path / "r").footer is None
    assert cli("run", RIGHT, "--report", "r").returncode == 0, "the lock went with its process"


def test_before_its_machine_is_known_a_run_is_cut_short_after_nothing(tmp_path):
    with ReportFolder(results(tmp_path, [record("a", "x", "1")]).parent) as folder:
        with Writer(folder, {"checks": 7, "goldens": "a"}) as writer:
            assert read(tmp_path).records == ()
            writer.start({"checks": 7, "goldens": "b"})
            writer.add(record("b", "x", "1"))
        run = read(tmp_path)
    assert (run.header["goldens"], len(run.records), run.footer) == ("b", 1, None)


def test_a_call_that_was_wrong_leaves_no_run_behind(tmp_path):
    with ReportFolder(tmp_path) as folder, pytest.raises(UsageError):  # noqa: SIM117
        with Writer(folder, {"checks": 7}):
            raise UsageError("no device cuda here")
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, IGNORED}


@pytest.mark.parametrize("end", ENDS)
def test_a_reader_that_is_gone_ends_output_and_nothing_else(tmp_path, end):
    command = (
        f"{sys.executable} -m conformance run '{RIGHT}' --report r{end}; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert "Traceback" not in done.stderr
    assert read(tmp_path / "r").conforms
    assert (tmp_path / "r" / "index.html").exists()


def test_what_a_closed_stream_is_sent_goes_into_no_file_of_the_report(tmp_path):
    """A file that is opened takes the lowest number that is free, that of a closed stream too."""
    code = "import os; from conformance.cli.output import outlive_readers; outlive_readers(); "
    code += "opened = os.open('file', os.O_WRONLY | os.O_CREAT); os.write(1, b'x'); "
    code += "os.write(2, b'x'); print('x'); os.system('echo x; echo x >&2'); assert opened > 2"
    command = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_a_reader_that_is_gone_changes_no_status_of_a_run_that_fails(tmp_path):
    wrong = SLOW.replace("time.sleep(0.3)", "return x")
    (tmp_path / "mine.py").write_text(f"import conformance\n{wrong}")
    command = f"{sys.executable} -m conformance run --adapter mine.py '*/slow:*c6-g2' | true"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["1"]


def test_git_ignores_a_folder_of_ours_and_no_folder_of_others(tmp_path):
    with ReportFolder(tmp_path / "ours"):
        pass
    assert "\n*\n" in (tmp_path / "ours" / IGNORED).read_text()
    for name in ("notes.txt", ".git", IGNORED):
        theirs = tmp_path / f"theirs {name}"
        theirs.mkdir()
        (theirs / name).write_text("mine")
        with ReportFolder(theirs):
            pass
        assert {path.name for path in theirs.iterdir()} == {name, LOCK}
        assert (theirs / name).read_text() == "mine"


def test_a_wrong_call_leaves_no_folder_that_it_made(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / "new" / "inner", kept):
        with pytest.raises(UsageError, match="wrong"), ReportFolder(folder):
            raise UsageError("wrong")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_wrong_call_takes_no_file_of_others_away(tmp_path):
    folder = ReportFolder(tmp_path / "new").__enter__()
    (tmp_path / "new" / "theirs").write_text("")
    folder.__exit__(UsageError, UsageError("wrong"), None)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]


def test_a_report_of_what_is_not_there_makes_no_folder(cli, tmp_path):
    assert cli("report", "nothing.jsonl", "--to", "out/in").returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_of_others_is_written_to_with_a_word(tmp_path):
    said = []
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("")
    with ReportFolder(tmp_path, said.append):
        pass
    words = f"report folder {tmp_path} holds other files, which stay: a, b, c and 1 more"
    assert said == [words]


@pytest.mark.parametrize("name", ["index.html", "junit.xml", RESULTS])
def test_a_file_of_others_under_a_name_of_ours_is_never_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"its {name} is of no run of conformance"):
        ReportFolder(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_pipe_in_the_place_of_results_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / RESULTS)
    with pytest.raises(UsageError, match=r"its results\.jsonl is of no run"):
        ReportFolder(tmp_path).__enter__()


def test_what_a_link_in_the_folder_points_to_is_left_alone(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    folder = results(tmp_path / "r", [record("a", "x", "1")]).parent
    for name in (*REPORTS, f".{RESULTS}.part"):
        (folder / name).symlink_to(target)
    results(folder, [record("a", "x", "1")])
    with ReportFolder(folder) as opened:
        assert opened.write("badge.svg", "new")
    assert target.read_text() == "mine"
    assert not (folder / "badge.svg").is_symlink()


def test_a_folder_that_goes_while_a_run_writes_is_told(tmp_path):
    with ReportFolder(tmp_path / "r") as folder:
        lines = Lines(folder)
        lines.begin({"kind": "header"})
        (tmp_path / "r").rename(tmp_path / "elsewhere")
        lines.add({"kind": "check"})
        lines.end()
        assert not folder.write("badge.svg", "")
    words = "not written: results.jsonl, badge.svg (removed or replaced while the run wrote)"
    assert folder.shortfall.endswith(words)


@pytest.mark.parametrize("change", [b"garbage\n", b'{"kind": "footer"}\n', b"", None])
def test_results_that_something_else_changed_are_told(tmp_path, change):
    with ReportFolder(tmp_path / "r") as folder:
        lines, file = Lines(folder), tmp_path / "r" / RESULTS
        lines.begin({"kind": "header", "text": "\ud800"})
        if change is None:
            file.write_bytes(file.read_bytes().replace(b"header", b"footer"))
        elif change:
            file.write_bytes(file.read_bytes() + change)
        lines.add({"kind": "check"})
        lines.end()
    words = "not written: results.jsonl (changed by something else while the run wrote it)"
    assert folder.shortfall.endswith(words) if change != b"" else not folder.shortfall


def test_a_folder_that_was_removed_and_is_another_run_s_by_now_stays_as_that_run_wrote_it(tmp_path):
    with ReportFolder(tmp_path / "r") as folder:
        shutil.rmtree(tmp_path / "r")
        with ReportFolder(tmp_path / "r") as other:
            assert other.write("badge.svg", "of the other")
        assert not folder.write("badge.svg", "of the first")
    assert (tmp_path / "r" / "badge.svg").read_text() == "of the other"


def test_a_file_system_without_locks_is_written_to_with_a_word(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    with ReportFolder(tmp_path / "r", said.append) as folder:
        assert folder.write("badge.svg", "new")
    assert len(said) == 1
    assert "cannot be locked" in said[0]


def test_the_first_signal_interrupts_and_what_is_being_written_is_not():
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    with interruptible(), uninterrupted():
        signal.raise_signal(signal.SIGTERM)


def test_what_a_user_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caches.folder.cache_clear()
    yield caches.folder
    caches.folder.cache_clear()


def test_compiled_code_is_where_its_user_alone_writes(cache_folder, tmp_path):
    folder = cache_folder()
    assert folder == tmp_path / "cache" / "conformance"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_compiled_code_that_others_could_have_written_is_not_used(cache_folder, tmp_path):
    folder = tmp_path / "cache" / "conformance"
    folder.mkdir(parents=True)
    (folder / "planted.py").write_text("raise SystemExit")
    folder.chmod(0o777)
    assert cache_folder() == folder
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["a file", "a link", "somebody else's", "a relative home"])
def test_where_no_cache_can_be_trusted_one_of_this_process_takes_its_place(
    cache_folder, tmp_path, monkeypatch, kind
):
    folder = tmp_path / "cache" / "conformance"
    folder.parent.mkdir()
    if kind == "a file":
        folder.write_text("")
    elif kind == "a link":
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    elif kind == "somebody else's":
        folder.mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    own = cache_folder()
    assert not own.is_relative_to(tmp_path / "cache")
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


CACHES = """
import os

@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    raise ValueError(*sorted(v for k, v in os.environ.items() if "_CACHE_DIR" in k))
"""


def test_no_compiler_is_told_to_load_code_from_a_report_folder(cli, adapter, tmp_path, monkeypatch):
    # torch's compiler says in its process's environment where its cache is.
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    folder = tmp_path / "home" / "conformance"
    pattern = "channel_shuffle/mine:identity*c6-g2"
    cli("run", "--adapter", adapter(CACHES), pattern, "--report", "r", XDG_CACHE_HOME=folder.parent)
    [check] = read(tmp_path / "r").records
    for kind in ("inductor", "triton", "xla"):
        assert f"'{folder / kind}'" in check.reason
    assert str(tmp_path / "r") not in check.reason
    assert {path.name for path in (tmp_path / "r").iterdir()} == {LOCK, IGNORED, RESULTS, *REPORTS}
