"""Time in which a task had no processor does not count; a task that hangs ends all the same."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.core.outcomes import Fate
from conformance.processes import LocalWorld, Task, deadline
from conformance.processes.deadline import Deadline

HAS_WAITS = Path("/proc/self/schedstat").exists()


@pytest.fixture
def looked(monkeypatch):
    """Makes processes wait: called with seconds, each look finds them waiting that much longer."""

    def waiting(seconds):
        waits = iter(range(1_000_000))
        monkeypatch.setattr(
            deadline, "_waits_of", lambda _: [(1, int(next(waits) * seconds * 1e9))]
        )

    return waiting


def ask(function, payload=None, timeout=0.6):
    world = LocalWorld(("tasks_for_tests",))
    try:
        [outcome] = world.run(Task(f"tasks_for_tests:{function}", payload), timeout)
    finally:
        world.close()
    return outcome


def test_what_had_no_processor_has_its_time_back(looked):
    looked(0.5)
    assert not isinstance(ask("sleep", 1.2), Fate)


def test_what_sleeps_is_late_by_the_clock(looked):
    looked(0.0)
    assert ask("sleep", 60).reason.startswith("no answer in 0.6 s; it was in ")


def test_what_hangs_where_nothing_gets_a_processor_ends_all_the_same(looked):
    looked(60.0)
    began = time.monotonic()
    outcome = ask("loop")
    assert time.monotonic() - began < 30
    assert outcome.reason.startswith(
        "no answer in 0.6 s and 1 s more, in which it waited for a processor"
    )


@pytest.mark.skipif(not HAS_WAITS, reason="this system does not count how long threads wait")
def test_a_process_that_shares_its_processor_waits_and_its_childs_waits_are_its_own():
    [first, *_] = os.sched_getaffinity(0)
    busy = f"import os\nos.sched_setaffinity(0, [{first}])\nwhile True: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])"
    others = [subprocess.Popen([sys.executable, "-c", code]) for code in (busy, parent)]
    limits = [Deadline([each.pid], time.monotonic(), 100.0) for each in others]
    try:
        until = time.monotonic() + 60
        while min(limit.seconds for limit in limits) == 100.0 and time.monotonic() < until:
            time.sleep(0.1)
            for limit in limits:
                limit.look()
    finally:
        folder = Path(f"/proc/{others[1].pid}/task/{others[1].pid}")
        children = (folder / "children").read_text().split()
        for pid in [*map(int, children), *(each.pid for each in others)]:
            os.kill(pid, 9)
        for each in others:
            each.wait()
    assert all(100.0 < limit.seconds <= 160.0 for limit in limits)
