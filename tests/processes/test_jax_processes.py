"""What a world of several JAX processes promises."""

import signal

import pytest

from conformance.core.outcomes import Declined, Fate
from conformance.processes import JaxProcesses, Task, verdict_rank

pytest.importorskip("jax", reason="JAX processes need JAX")


@pytest.fixture(scope="module")
def pool():
    world = JaxProcesses()
    yield world
    world.close()


def ask(world, function, payload=None, ranks=2, timeout=60.0):
    return world.run(Task(f"jax_tasks_for_tests:{function}", payload, ranks), timeout)


def test_each_process_has_its_devices_and_sees_those_of_the_others(pool):
    assert ask(pool, "devices") == [(0, 2, None, 0, 2, 4), (1, 2, None, 1, 2, 4)]


def test_the_devices_of_all_processes_add(pool):
    assert ask(pool, "total") == [6.0, 6.0]


def test_an_error_of_one_process_ends_the_one_that_waits_for_it(pool):
    outcomes = ask(pool, "raise_on_one")
    assert verdict_rank(outcomes) == 1
    assert outcomes[1].message == "bad shard"
    assert outcomes[0].status == "timeout"
    assert ask(pool, "total") == [6.0, 6.0]


@pytest.mark.parametrize(
    ("function", "payload", "rank", "reason"),
    [
        ("exit_on_one", 3, 1, "exit status 3"),
        ("kill_one", signal.SIGKILL, 0, "SIGKILL"),
        ("segfault_on_one", None, 1, "SIGSEGV in tests/processes/jax_tasks_for_tests.py:"),
    ],
)
def test_a_death_decides_and_costs_only_its_own_task(pool, function, payload, rank, reason):
    outcomes = ask(pool, function, payload)
    assert verdict_rank(outcomes) == rank
    assert outcomes[rank].status == "crash"
    assert outcomes[rank].reason.startswith(reason)
    assert ask(pool, "total") == [6.0, 6.0]


@pytest.mark.parametrize(("function", "place"), [("skip", "in total"), ("loop_on_one", "in loop")])
def test_a_process_that_waits_or_loops_for_ever_is_late(pool, function, place):
    outcomes = ask(pool, function, timeout=2)
    assert verdict_rank(outcomes) == 1
    assert isinstance(outcomes[1], Fate)
    assert outcomes[1].status == "timeout"
    assert place in outcomes[1].reason
    assert ask(pool, "total") == [6.0, 6.0]


def test_a_task_that_leaves_the_cluster_does_not_spoil_the_next(pool):
    assert ask(pool, "shutdown") == ["shut down"] * 2
    assert ask(pool, "total") == [6.0, 6.0]


def test_a_part_of_the_processes_is_declined(pool):
    [outcome] = ask(pool, "total", ranks=1)
    assert outcome == Declined("unsupported", "1 ranks were asked of a world where all 2 take part")


def test_the_fork_server_has_one_thread_only_for_forking_is_unsafe_with_more(pool):
    assert ask(pool, "threads_of_the_fork_server") == [1, 1]
