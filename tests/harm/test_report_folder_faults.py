"""A fault at every operation on the report folder costs neither the verdict nor the exit status.

The operations of a run without faults are counted; then each in turn fails with an OSError. All of
them by `bash ci/run harm`, else some.
"""

import errno
import os
import shutil
from contextlib import contextmanager
from functools import partial

import pytest
from click.testing import CliRunner

from conformance.cli import commands
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import IGNORED, LOCK, REPORTS, RESULTS, ReportFolder
from conformance.core.verdict import Verdict
from conformance.report import merging
from conformance.run import plan as plans
from conformance.run import results, runner
from conformance.run.devices import NOWHERE
from tests.report import records
from tests.sampling import IS_FULL

PATTERN = "channel_shuffle/numpy_reshape:identity*c6-*"
OPERATIONS = ("open", "write", "replace", "unlink", "mkdir")
OLD = "of-the-run-before"
ERRORS = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "broken": OSError(errno.EIO, "Input/output error"),
}


class Disk:
    """The operations of this process on one folder, of which one may fail."""

    def __init__(self, folder):
        self.folder, self.descriptors, self.done = str(folder), set(), []
        self.failing, self.error, self.stays_full = None, None, False

    def is_ours(self, name, target):
        if name == "write":
            return target in self.descriptors
        return isinstance(target, str | os.PathLike) and os.fspath(target).startswith(self.folder)

    def call(self, name, real, target, *rest, **options):
        if not self.is_ours(name, target):
            return real(target, *rest, **options)
        number = len(self.done)
        self.done.append((name, target))
        is_full = self.stays_full and self.failing is not None and number > self.failing
        if number == self.failing or (is_full and name in ("write", "open", "mkdir")):
            if name == "write" and len(rest[0]) > 1:
                # A disk that fills up takes a part of what is written.
                real(target, bytes(rest[0])[: len(rest[0]) // 2])
            raise self.error
        result = real(target, *rest, **options)
        if name == "open":
            self.descriptors.add(result)
        return result


@contextmanager
def faulty(disk):
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, partial(disk.call, name, getattr(os, name)))
        yield


class Answers:
    """An examiner without processes: every check is exact."""

    def look_around(self, frameworks):
        return NOWHERE

    def keep_only(self, world):
        pass

    def examine(self, check):
        return Verdict("exact", answer="1" * 64), 0.1

    def close(self):
        pass


@pytest.fixture(scope="module", autouse=True)
def without_processes():
    plan = plans.make_plan([PATTERN])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "make_plan", lambda *_, **__: plan)
        patch.setattr(runner, "_examiner", lambda *_: Answers())
        yield


@pytest.fixture
def folder(tmp_path):
    """A folder with all reports of a run before, in each of which its name stands."""
    folder = tmp_path / "r"
    records.results(folder, [records.record(OLD, "x", "1", "fail")])
    for name in REPORTS:
        (folder / name).write_text(OLD)
    (folder / f".{RESULTS}.part").write_text(OLD)
    return folder


def run_into(folder):
    return CliRunner().invoke(commands, ["run", PATTERN, "--jobs", "1", "--report", str(folder)])


def test_without_a_fault_everything_is_written(folder):
    done = run_into(folder)
    assert done.exit_code == 0, done.output
    assert {path.name for path in folder.iterdir()} == {RESULTS, *REPORTS, LOCK, IGNORED}
    assert not any(OLD in path.read_text() for path in folder.iterdir())


def chosen(count):
    """The operations that fail: all, or some that change from one kind of fault to the next."""
    return range(count) if IS_FULL else range(count % 7, count, 7)


@pytest.mark.parametrize("kind", ["disk full", "disk stays full", "broken"])
def test_a_fault_at_any_operation_costs_no_verdict(folder, kind):
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)
    whole = Disk(folder)
    with faulty(whole):
        assert run_into(folder).exit_code == 0
    names = [name for name, _ in whole.done]
    assert {*OPERATIONS} == {*names}
    assert len(names) > 50
    for number in chosen(len(names)):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        disk = Disk(folder)
        disk.failing, disk.stays_full = number, kind == "disk stays full"
        disk.error = ERRORS.get(kind, ERRORS["disk full"])
        with faulty(disk):
            done = run_into(folder)
        where = (number, *whole.done[number])
        if isinstance(done.exception, UsageError):
            # Nothing was asked yet: the folder cannot be opened, or an old report not be removed.
            assert "cannot be written" in str(done.exception), where
            assert where[1] in ("mkdir", "open", "unlink"), where
            assert number < names.index("replace"), where
            continue
        told = [line for line in done.stderr.splitlines() if "report folder" in line]
        assert (done.exit_code, done.exception) == (0, None), where
        assert "Conforms: 2 exact" in done.stdout, where
        is_told = len(told) == 1 and ": not written: " in told[0]
        # The folder is there, and a header that fails is written again once the machine is known.
        is_made_good = where[1] == "mkdir" or number <= names.index("replace")
        assert is_told or (is_made_good and kind != "disk stays full"), (where, done.stderr)
        assert not any(OLD in path.read_text() for path in folder.iterdir()), where
        if (folder / RESULTS).exists():
            assert len(results.read(folder).records) <= 2
            is_whole = results.read(folder).footer is not None
            assert is_whole == (RESULTS not in "".join(told)), where


@pytest.mark.parametrize("kind", ["disk full", "broken"])
def test_a_fault_at_any_operation_of_a_merge_leaves_the_old_file_or_the_new(folder, kind):
    file = records.results(folder.parent / "a", [records.record("new", "x", "1")])
    merged = merging.merge([file])
    whole = Disk(folder)
    with faulty(whole), ReportFolder(folder) as opened:
        merging.write(merged, opened)
    for number in chosen(len(whole.done)):
        records.results(folder, [records.record(OLD, "x", "1", "fail")])
        disk = Disk(folder)
        disk.failing, disk.error = number, ERRORS[kind]
        told = ""
        with faulty(disk):
            try:
                with ReportFolder(folder) as opened:
                    merging.write(merged, opened)
                told = opened.shortfall
            except UsageError as error:
                told = str(error)
        operation, _ = whole.done[number]
        assert told.startswith("report folder ") or operation == "mkdir", whole.done[number]
        if (folder / RESULTS).exists():
            assert results.read(folder).footer is not None
