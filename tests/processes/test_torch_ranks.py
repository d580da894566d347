"""What a pool of torch ranks promises."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from conformance.core.outcomes import Declined, Fate, Raised
from conformance.processes import Task, TorchRanks, torch_ranks, verdict_rank
from conformance.processes.temp_folders import new_folder

pytest.importorskip("torch", reason="torch ranks need torch")


@pytest.fixture(scope="module")
def pool():
    world = TorchRanks(4)
    yield world
    world.close()


def ask(world, function, payload=None, ranks=2, timeout=30.0):
    return world.run(Task(f"torch_tasks_for_tests:{function}", payload, ranks), timeout)


def works(world):
    """Whether every rank of a world adds with every other."""
    everyone = range(1, world.size + 1)
    return ask(world, "total", 1.0, world.size) == [[float(sum(everyone))] * 3 for _ in everyone]


def decisive(outcomes):
    return outcomes[verdict_rank(outcomes)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_task_of_some_ranks_has_a_group_of_just_these(pool, ranks):
    told = ask(pool, "where_am_i", ranks=ranks)
    assert [rest for _, *rest in told] == [[i, ranks, i, 1] for i in range(ranks)]
    assert len({pid for pid, *_ in told} - {os.getpid()}) == ranks
    assert ask(pool, "total", 2.0, ranks) == [[ranks * (ranks + 1.0)] * 3] * ranks


def test_a_size_that_is_unusual_has_a_group_too():
    world = TorchRanks(6)
    assert ask(world, "total", 1.0, 5) == [[15.0] * 3] * 5
    assert works(world)
    world.close()


@pytest.mark.parametrize(("removals", "meets"), [(1, True), (9, False)])
def test_a_meeting_point_that_others_remove_is_made_again(monkeypatch, removals, meets):
    """Without it ranks would wait for each other until the limit of a start, 300 s."""
    made = []

    def removed(kind):
        made.append(new_folder(kind))
        if len(made) <= removals:
            made[-1].rmdir()
        return made[-1]

    monkeypatch.setattr(torch_ranks, "new_folder", removed)
    world = TorchRanks(2)
    outcomes = ask(world, "total", 1.0)
    world.close()
    assert len(made) == (2 if meets else 3)
    if meets:
        assert outcomes == [[3.0] * 3] * 2
    else:
        words = "the world did not start: the folder where its ranks meet was removed"
        assert outcomes == [Fate("crash", words)] * 2


def test_gradients_are_averaged_over_the_ranks(pool):
    assert ask(pool, "ddp", 1) == [[[1.5] * 4] * 2] * 2  # of 3 samples of 0, and 3 of 1


def test_the_ranks_stay_from_task_to_task(pool):
    assert ask(pool, "where_am_i") == ask(pool, "where_am_i")


def test_the_parent_never_imports_torch(pool):
    import subprocess

    script = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from conformance.processes import *\n"
        "world = TorchRanks(2)\n"
        "print(world.run(Task('torch_tasks_for_tests:total', 1.0, 2), 60), 'torch' in sys.modules)"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, here], capture_output=True, text=True)
    assert done.stdout == "[[3.0, 3.0, 3.0], [3.0, 3.0, 3.0]] False\n", done.stderr


def test_the_fork_server_has_one_thread_only_for_forking_is_unsafe_with_more(pool):
    assert ask(pool, "threads_of_the_fork_server") == [1, 1]


def test_an_error_of_every_rank_is_told_by_every_rank(pool):
    outcomes = ask(pool, "raise_on_all", ranks=3)
    assert [(o.type, o.message) for o in outcomes] == [("ValueError", "bad shard")] * 3
    assert works(pool)


def test_an_error_among_several_ranks_renews_them_and_of_a_lone_one_does_not(pool):
    before = ask(pool, "where_am_i")
    ask(pool, "raise_on_all", ranks=1)
    assert ask(pool, "where_am_i") == before
    ask(pool, "raise_on_all", ranks=2)
    assert ask(pool, "where_am_i") != before


def test_an_error_of_one_rank_ends_those_that_wait_for_it(pool):
    started = time.monotonic()
    outcomes = ask(pool, "raise_on_one", ranks=3, timeout=60)
    assert time.monotonic() - started < 15
    assert verdict_rank(outcomes) == 1
    assert outcomes[1].message == "bad shard"
    assert outcomes[0].status == outcomes[2].status == "timeout"
    assert "since rank 1 had failed; it was in tests/processes/torch_tasks" in outcomes[0].reason
    assert outcomes[0].reason.endswith("in total, inside all_reduce")
    assert works(pool)


@pytest.mark.parametrize(
    ("function", "payload", "rank", "reason"),
    [
        ("exit_on_one", 3, 1, "exit status 3"),
        ("kill_one", signal.SIGKILL, 0, "SIGKILL"),
        ("segfault_on_one", None, 1, "SIGSEGV in tests/processes/torch_tasks_for_tests.py:"),
    ],
)
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_death_decides_and_costs_only_its_own_task(pool, function, payload, rank, reason, ranks):
    outcomes = ask(pool, function, payload, ranks)
    assert verdict_rank(outcomes) == rank
    assert outcomes[rank].status == "crash"
    assert outcomes[rank].reason.startswith(reason)
    assert not any(isinstance(outcome, list) for outcome in outcomes)
    assert works(pool)


def test_shapes_that_differ_are_a_crash_that_says_so(pool):
    outcome = decisive(ask(pool, "mismatch"))
    assert isinstance(outcome, Fate)
    assert outcome.status == "crash"
    assert outcome.reason.startswith("SIGABRT")
    assert "Received data size doesn't match expected size" in outcome.reason
    assert works(pool)


def test_a_skipped_collective_is_a_timeout_that_says_who_waited_where(pool):
    outcomes = ask(pool, "skip", timeout=1)
    assert outcomes[0] == "done"
    assert verdict_rank(outcomes) == 1
    assert outcomes[1].status == "timeout"
    assert outcomes[1].reason.startswith("no answer in 1 s")
    assert " when rank 0 had answered; it was in tests" in outcomes[1].reason
    assert outcomes[1].reason.endswith("in total, inside all_reduce")
    assert works(pool)


def test_a_rank_that_loops_costs_only_its_own_task(pool):
    outcomes = ask(pool, "loop_on_one", timeout=1)
    assert [outcome.status for outcome in outcomes] == ["timeout"] * 2
    assert verdict_rank(outcomes) == 1
    assert outcomes[1].reason.endswith("in loop_on_one")
    assert works(pool)


@pytest.mark.parametrize("function", ["destroy", "destroy_subgroup", "unmatched", "send_too_much"])
def test_a_task_that_leaves_the_groups_unsound_does_not_spoil_the_next(pool, function):
    assert not any(isinstance(outcome, Raised | Fate) for outcome in ask(pool, function))
    assert ask(pool, "total", 1.0) == [[3.0] * 3] * 2  # in the same group
    assert ask(pool, "ring") == [[1.0] * 3, [0.0] * 3]
    assert works(pool)


def test_ranks_can_send_to_each_other(pool):
    assert ask(pool, "ring", ranks=3) == [[2.0] * 3, [0.0] * 3, [1.0] * 3]


def test_more_ranks_than_there_are_is_declined(pool):
    assert (
        ask(pool, "total", 1.0, 5)
        == [Declined("unsupported", "5 ranks were asked of a world of 4")] * 5
    )


def test_five_deaths_in_a_row_leak_no_process_descriptor_or_folder(pool, is_alive):
    folder = new_folder("test").parent

    def held():
        return len(list(Path("/proc/self/fd").iterdir())), len(list(folder.iterdir()))

    assert works(pool)
    before = held()
    for _ in range(5):
        pids = [pid for pid, *_ in ask(pool, "where_am_i", ranks=4)]
        assert decisive(ask(pool, "kill_one", signal.SIGKILL, 4)).status == "crash"
        assert not any(map(is_alive, pids))
    assert works(pool)
    assert held() == before


def test_closing_ends_the_ranks_and_removes_their_folder(is_alive):
    folder = new_folder("test").parent
    before = list(folder.iterdir())
    world = TorchRanks(2)
    pids = [pid for pid, *_ in ask(world, "where_am_i")]
    world.close()
    assert not any(map(is_alive, pids))
    assert list(folder.iterdir()) == before
