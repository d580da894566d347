"""What is left of a world when its parent ends: nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.processes import LocalWorld, Task, fork_client, wire
from conformance.processes.temp_folders import new_folder, sweep

_HERE = Path(__file__).parent
_PARENT = """
import sys, time
sys.path.append({here!r})
from conformance.processes import LocalWorld, Task, TorchRanks

def ask(world, function, ranks=1):
    return world.run(Task(function, None, ranks), 60)

local = LocalWorld()
pids = [ask(local, "tasks_for_tests:where_am_i")[0]["pid"], *ask(local, "tasks_for_tests:parent")]
pids += ask(local, "tasks_for_tests:leave_processes_behind")[0]
if {torch}:
    ranks = TorchRanks(2)
    pids += [pid for pid, *_ in ask(ranks, "torch_tasks_for_tests:where_am_i", 2)]
    pids += ask(ranks, "tasks_for_tests:parent")
print(*pids, flush=True)
{then}
"""


@pytest.fixture
def start(tmp_path):
    """Starts a parent with worlds, and gives it with the ids of their processes."""
    parents = []

    def start(then, *, torch=False):
        script = _PARENT.format(here=str(_HERE), then=then, torch=torch)
        parent = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        parents.append(parent)
        return parent, [int(pid) for pid in parent.stdout.readline().split()]

    yield start
    for parent in parents:
        parent.kill()
        parent.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_killed_leaves_no_process(start, number, is_alive, until):
    parent, pids = start("time.sleep(600)")
    assert len(pids) == 5
    assert all(map(is_alive, pids))
    parent.send_signal(number)
    parent.communicate()
    assert until(lambda: not any(map(is_alive, pids)))


def test_a_parent_that_is_killed_leaves_no_torch_rank(start, tmp_path, is_alive, until):
    parent, pids = start("time.sleep(600)", torch=True)
    assert len(pids) == 8
    [folder] = tmp_path.glob("conformance-*")
    parent.kill()
    parent.communicate()
    assert until(lambda: not any(map(is_alive, pids)))
    sweep(tmp_path)  # as the next run does
    assert not folder.exists()


def test_a_parent_that_ends_without_closing_leaves_nothing(start, tmp_path, is_alive):
    parent, pids = start("", torch=True)
    _, errors = parent.communicate(timeout=30)
    assert (parent.returncode, errors) == (0, "")
    assert not any(map(is_alive, pids))
    assert not list(tmp_path.glob("conformance-*"))


def test_a_parent_whose_task_still_runs_in_a_thread_ends(start, is_alive):
    then = """
import threading
task = Task("tasks_for_tests:sleep", 600)
threading.Thread(target=local.run, args=(task, 600), daemon=True).start()
time.sleep(0.1)
"""
    parent, pids = start(then)
    parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert not any(map(is_alive, pids))


def test_an_interrupted_start_spoils_nothing(start, tmp_path):
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(1)")
    then = f"""
import os, signal, threading
sys.path.append({str(tmp_path)!r})
world = LocalWorld(("slow_to_import",))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    ask(world, "tasks_for_tests:parent")
except KeyboardInterrupt:
    assert isinstance(ask(world, "tasks_for_tests:parent")[0], int)
    assert ask(local, "tasks_for_tests:where_am_i")[0]["pid"] == pids[0]
    sys.exit(7)
"""
    parent, _ = start(then)
    _, errors = parent.communicate(timeout=30)
    assert (parent.returncode, errors) == (7, "")


def test_a_reply_that_was_not_waited_for_is_not_taken_for_the_next(monkeypatch):
    class Interrupted:
        send_with_descriptors = staticmethod(wire.send_with_descriptors)
        close_quietly = staticmethod(wire.close_quietly)
        is_readable = staticmethod(wire.is_readable)

        @staticmethod
        def receive(peer):
            raise KeyboardInterrupt

    world, other = LocalWorld(("string",)), LocalWorld(("string",))
    echo = Task("tasks_for_tests:echo", 5)
    assert world.run(echo, 20) == [5]
    with monkeypatch.context() as patched:
        patched.setattr(fork_client, "wire", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.run(echo, 20)
    [late] = other.run(Task("tasks_for_tests:loop", None), 0.3)
    assert late.reason.endswith("in loop")  # so the right process was asked for its stack
    assert world.run(echo, 20) == [5]
    world.close()
    other.close()


def test_a_forked_copy_of_the_parent_can_have_worlds_and_leaves_those_of_the_parent(start):
    then = """
import os
if os.fork() == 0:
    assert ask(LocalWorld(), "tasks_for_tests:parent") != pids[1]
    sys.exit()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert ask(local, "tasks_for_tests:where_am_i")[0]["pid"] == pids[0]
"""
    parent, _ = start(then)
    _, errors = parent.communicate(timeout=30)
    assert (parent.returncode, errors) == (0, "")


def test_folders_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living = new_folder("test").parent
    dead = tmp_path / f"conformance-{ended.pid}-12345-abc"
    same_number = tmp_path / f"conformance-{os.getpid()}-12345-abc"
    mine = tmp_path / living.name
    other = tmp_path / "conformance-report-of-may"
    for folder in (dead, same_number, mine, other):
        folder.mkdir()
        (folder / "file").touch()
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])
    assert living.exists()


def test_importing_the_worlds_imports_no_framework():
    script = "import conformance.processes, sys; print({'torch', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n"
