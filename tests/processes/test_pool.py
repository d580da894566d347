"""What a world of one process promises."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from conformance.core.outcomes import Answer, Declined, Fate, Raised
from conformance.processes import LocalWorld, Task


def ask(world, function, payload=None, timeout=20.0):
    [outcome] = world.run(Task(f"tasks_for_tests:{function}", payload), timeout)
    return outcome


@pytest.fixture
def local():
    world = LocalWorld(prepare="tasks_for_tests:prepare")
    yield world
    world.close()


def test_a_value_comes_back_as_it_is(local):
    payload = {"a": np.arange(5, dtype=np.int16), "b": (1, "two", None)}
    back = ask(local, "echo", payload)
    assert back["b"] == payload["b"]
    assert back["a"].dtype == np.int16
    assert np.array_equal(back["a"], payload["a"])


def test_an_answer_of_many_megabytes_comes_back(local):
    payload = np.arange(8 << 20, dtype=np.float64)
    assert np.array_equal(ask(local, "echo", payload), payload)


def test_an_outcome_comes_back_as_that_outcome(local):
    doubled = ask(local, "answer", np.float32(4))
    assert isinstance(doubled, Answer)
    assert doubled.arrays["doubled"] == 8
    assert ask(local, "decline") == Declined("unsupported", "said by hand")


def test_what_a_rank_prints_without_end_does_not_fill_the_disk(local):
    written = 18 * 5_000 * 200  # bytes between two looks
    sizes = ask(local, "print_for_ever", 20, timeout=60)
    assert max(sizes) < 20 * written
    assert sizes[-1] < sum(sizes)  # The log was cut at least once, and goes on.


def test_where_memory_runs_out_the_rank_goes_first(local):
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert ask(local, "oom_score") >= max(own, 500)


def test_a_rank_knows_that_it_is_alone(local):
    assert ask(local, "where_am_i")["rank"] == (0, 1, None)


def test_the_process_stays_from_task_to_task(local):
    assert ask(local, "where_am_i")["pid"] == ask(local, "where_am_i")["pid"] != os.getpid()


def test_an_exception_is_told_with_its_ancestors_and_its_place(local):
    outcome = ask(local, "raise_", FileNotFoundError("no shard"))
    assert outcome == Raised(
        "FileNotFoundError", "no shard", ("OSError", "Exception", "BaseException"), outcome.where
    )
    assert outcome.where.startswith("tests/processes/tasks_for_tests.py:")


def test_the_place_is_the_callers_line_and_the_librarys(local):
    outcome = ask(local, "raise_inside_numpy", (5,))
    assert outcome.type == "ValueError"
    assert re.fullmatch(
        r"tests/processes/tasks_for_tests\.py:\d+, in numpy/\S+\.py:\d+", outcome.where
    )


@pytest.mark.parametrize(
    ("function", "payload", "type_", "message"),
    [
        ("exit_by_sys", 4, "SystemExit", "4"),
        ("raise_", KeyboardInterrupt("mine"), "KeyboardInterrupt", "mine"),
        ("raise_wrong_answer", None, "WrongAnswer", "a list"),
        ("raise_unreadable", None, "UnreadableError", "(its message cannot be read: RuntimeError)"),
        ("not_there", None, "AttributeError", "module 'tasks_for_tests' has no attribute"),
    ],
)
def test_nothing_that_is_raised_ends_the_process(local, function, payload, type_, message):
    before = ask(local, "where_am_i")["pid"]
    outcome = ask(local, function, payload)
    assert isinstance(outcome, Raised)
    assert outcome.type == type_
    assert message in outcome.message
    assert ask(local, "where_am_i")["pid"] == before


def test_a_bridge_can_decline(local):
    assert ask(local, "raise_unsupported") == Declined("unsupported", "no complex numbers")
    assert ask(local, "raise_not_exercised") == Declined("not-exercised", "one device")


def test_a_task_that_cannot_be_imported_says_so(local):
    [outcome] = local.run(Task("no_such_package.tasks:f", None), 20)
    assert isinstance(outcome, Raised)
    assert outcome.message == "No module named 'no_such_package'"


def test_an_answer_that_does_not_pickle_is_an_error_of_the_task(local):
    outcome = ask(local, "unpicklable")
    assert isinstance(outcome, Raised)
    assert "the answer, a function, cannot be sent" in outcome.message


def test_an_answer_imports_nothing_into_the_parent(local):
    outcome = ask(local, "unreadable_by_the_parent")
    assert isinstance(outcome, Raised)
    assert outcome.message == "the answer, a Odd, cannot be sent: a Odd is no plain data"
    assert "fractions_for_tests" not in sys.modules


def test_a_payload_that_does_not_pickle_is_the_callers_mistake(local):
    with pytest.raises((AttributeError, TypeError)):
        ask(local, "echo", lambda: None)
    assert ask(local, "echo", 1) == 1


@pytest.mark.parametrize(
    ("function", "payload", "reason"),
    [
        ("exit_by_os", 3, "exit status 3"),
        ("exit_by_os", 0, "exit status 0"),
        ("kill_myself", signal.SIGKILL, "SIGKILL"),
        ("kill_myself", signal.SIGTERM, "SIGTERM"),
        ("segfault", None, "SIGSEGV in tests/processes/tasks_for_tests.py:"),
        ("write_then_die", "one\ntwo\n", "exit status 9; it last wrote: one | two"),
    ],
)
def test_a_death_costs_its_own_task_alone_and_is_told(local, function, payload, reason):
    assert ask(local, "echo", 1) == 1
    outcome = ask(local, function, payload)
    assert isinstance(outcome, Fate)
    assert outcome.status == "crash"
    assert outcome.reason.startswith(reason)
    assert ask(local, "echo", 2) == 2


def test_a_rank_that_loops_costs_only_its_own_task(local):
    outcome = ask(local, "loop", timeout=0.3)
    assert isinstance(outcome, Fate)
    assert outcome.status == "timeout"
    more = r"( and \d+ s more, in which it waited for a processor)?"  # On a busy machine.
    place = r"tests/processes/tasks_for_tests\.py:\d+, in loop"
    assert re.fullmatch(rf"no answer in 0\.3 s{more}; it was in {place}", outcome.reason)
    assert ask(local, "echo", 2) == 2


def test_a_stopped_rank_is_late_too(local):
    outcome = ask(local, "kill_myself", signal.SIGSTOP, timeout=0.2)
    assert outcome == Fate("timeout", "no answer in 0.2 s")


def test_words_of_an_earlier_task_are_not_given_for_a_death(local):
    ask(local, "shout", "earlier words")
    assert ask(local, "exit_by_os", 3) == Fate("crash", "exit status 3")


def test_nothing_that_is_printed_reaches_the_parents_output(local, capfd):
    assert ask(local, "shout", "loud words") == len("loud words")
    assert capfd.readouterr() == ("", "")


def test_a_death_between_tasks_costs_nothing(local, is_alive, until):
    pid = ask(local, "where_am_i")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not is_alive(pid))
    assert ask(local, "echo", 5) == 5


def test_a_task_that_forks_answers_once(local):
    assert [ask(local, "fork_and_both_return", n) for n in range(3)] == [0, 1, 2]
    assert ask(local, "echo", "in step") == "in step"


def test_a_task_that_leaves_a_thread_answers_and_its_world_closes(is_alive):
    world = LocalWorld()
    assert ask(world, "leave_a_thread_behind") == "back"
    pid = ask(world, "where_am_i")["pid"]
    world.close()
    assert not is_alive(pid)


def test_processes_that_a_task_started_end_with_its_world(is_alive):
    world = LocalWorld()
    pids = ask(world, "leave_processes_behind")
    assert all(map(is_alive, pids))
    world.close()
    assert not any(map(is_alive, pids))


def test_processes_that_a_task_started_end_with_its_death(local, tmp_path, is_alive, until):
    file = tmp_path / "pids"
    assert ask(local, "leave_processes_behind_and_die", str(file)).status == "crash"
    assert until(lambda: not any(is_alive(int(pid)) for pid in file.read_text().split()))


def test_closing_descriptors_costs_only_ones_own_task(local):
    assert ask(local, "close_every_descriptor").status == "crash"
    assert ask(local, "echo", 1) == 1


def test_prepare_is_called_once_in_each_process(local):
    first = ask(local, "where_am_i")
    assert first["prepared"] == [first["pid"]]
    assert ask(local, "where_am_i")["prepared"] == [first["pid"]]
    ask(local, "exit_by_os", 1)
    second = ask(local, "where_am_i")
    assert second["prepared"] == [second["pid"]] != [first["pid"]]


def test_a_prepare_that_raises_is_the_outcome_of_the_task():
    world = LocalWorld(prepare="tasks_for_tests:prepare_that_raises")
    outcome = ask(world, "echo")
    world.close()
    assert isinstance(outcome, Raised)
    assert outcome.type == "LookupError"
    assert outcome.message == "the world did not start: no such device"


def test_the_path_the_folder_and_the_environment_are_those_of_the_parent(
    local, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONLY_FOR_THIS_TEST", "1")
    there = ask(local, "where_am_i")
    assert there["cwd"] == str(tmp_path)
    assert there["path"] == sys.path
    assert there["environment"]["ONLY_FOR_THIS_TEST"] == "1"


def test_ranks_have_one_thread_each_unless_told_otherwise(local):
    there = ask(local, "where_am_i")["environment"]
    assert there["OMP_NUM_THREADS"] == there["OPENBLAS_NUM_THREADS"] == there["MKL_NUM_THREADS"]
    assert there["OMP_NUM_THREADS"] == "1"
    assert there["XLA_FLAGS"].startswith("--xla_cpu_multi_thread_eigen=false")
    world = LocalWorld(environment={"OMP_NUM_THREADS": "3", "XLA_FLAGS": "", "MINE": "here"})
    told = ask(world, "where_am_i")["environment"]
    world.close()
    assert (told["OMP_NUM_THREADS"], told["XLA_FLAGS"], told["MINE"]) == ("3", "", "here")


def test_an_import_that_fails_beforehand_fails_only_what_needs_it():
    world = LocalWorld(preload=("no_such_framework", "tasks_for_tests"))
    assert ask(world, "echo", 1) == 1
    [outcome] = world.run(Task("no_such_framework.nn:f", None), 20)
    world.close()
    assert outcome.type == "ModuleNotFoundError"
    assert outcome.message == "No module named 'no_such_framework'"


def test_an_import_that_ends_the_process_is_told(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os\nos.write(2, b'no driver')\nos._exit(5)")
    monkeypatch.syspath_prepend(tmp_path)
    world = LocalWorld(preload=("deadly",))
    outcome = ask(world, "echo", 1)
    world.close()
    assert outcome == Fate(
        "crash",
        "the process that imports deadly died: exit status 5; it last wrote: no driver",
    )


def test_too_many_ranks_are_declined(local):
    outcomes = local.run(Task("tasks_for_tests:echo", None, ranks=2), 20)
    assert outcomes == [Declined("unsupported", "2 ranks were asked of a world of 1")] * 2


def test_a_closed_world_tells_so(local):
    local.close()
    local.close()
    assert ask(local, "echo") == Fate("crash", "the world was closed")


def test_closing_from_another_thread_ends_a_task_as_a_crash(local):
    ask(local, "echo")
    threading.Timer(0.2, local.close).start()
    started = time.monotonic()
    assert ask(local, "sleep", 60, timeout=60) == Fate("crash", "the world was closed")
    assert time.monotonic() - started < 10


def test_worlds_of_several_threads_do_not_meet():
    answers = {}

    def work(name):
        world = LocalWorld()
        answers[name] = [ask(world, "echo", (name, n)) for n in range(50)]
        answers[name].append(ask(world, "exit_by_os", name))
        world.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in range(4):
        assert answers[name][:-1] == [(name, n) for n in range(50)]
        assert answers[name][-1] == Fate("crash", f"exit status {name}")


def test_worlds_with_the_same_imports_share_a_fork_server_of_one_thread():
    worlds = [LocalWorld(("decimal",)) for _ in range(2)]
    assert [ask(world, "threads_of_the_fork_server") for world in worlds] == [1, 1]
    parents = {ask(world, "parent") for world in worlds}
    for world in worlds:
        world.close()
    assert len(parents) == 1


def test_a_fork_server_with_more_imports_is_forked_from_one_with_fewer(until, is_alive):
    some, more = LocalWorld(("decimal",)), LocalWorld(("decimal", "fractions_for_tests"))
    other = LocalWorld(("decimal", "fractions_for_tests"), environment={"MINE": "here"})
    base, above = ask(some, "parent"), ask(more, "parent")
    assert ask(more, "has_imported", "fractions_for_tests")
    assert not ask(some, "has_imported", "fractions_for_tests")
    assert parent_of(above) == base
    # What is imported may depend on the environment.
    assert parent_of(ask(other, "parent")) == os.getpid()
    os.kill(base, signal.SIGKILL)
    until(lambda: not is_alive(above))
    assert ask(more, "echo", 1) == 1
    for world in (some, more, other):
        world.close()


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_five_deaths_in_a_row_leak_nothing(local, is_alive):
    def held():
        return len(list(Path("/proc/self/fd").iterdir()))

    def die():
        pid = ask(local, "where_am_i")["pid"]
        assert ask(local, "kill_myself", signal.SIGKILL).status == "crash"
        assert not is_alive(pid)

    die()
    before, server = held(), ask(local, "parent")
    theirs = len(list(Path(f"/proc/{server}/fd").iterdir()))
    for _ in range(5):
        die()
    ask(local, "echo")
    assert held() <= before + 4  # a living rank's
    assert len(list(Path(f"/proc/{server}/fd").iterdir())) == theirs


def test_a_round_trip_takes_well_below_half_a_millisecond(local):
    payload = np.zeros(20_480 // 8)
    times = []
    for _ in range(300):
        started = time.perf_counter()
        ask(local, "echo", payload)
        times.append(time.perf_counter() - started)
    # The best tenth: what the way there and back costs, whatever else this machine does.
    assert sorted(times)[30] < 0.5e-3


@pytest.fixture
def alone():
    world = LocalWorld(is_alone=True)
    yield world
    world.close()


def test_a_world_for_code_from_outside_has_a_fork_server_of_its_own(local, alone):
    servers = [ask(world, "parent") for world in (local, alone)]
    assert len(set(servers)) == 2
    assert ask(alone, "threads_of_the_fork_server") == 1
    assert os.getpid() not in servers


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_fork_server_that_is_harmed_costs_no_other_world(local, alone, number, is_alive, until):
    pid, other = ask(alone, "where_am_i")["pid"], ask(local, "where_am_i")["pid"]
    server = ask(alone, "parent")
    outcome = ask(alone, "harm_my_parent", number)
    assert outcome == number or outcome.status == "crash"
    started = time.monotonic()
    alone.close()
    assert time.monotonic() - started < 10
    assert until(lambda: not is_alive(pid) and not is_alive(server))
    assert ask(local, "where_am_i")["pid"] == other


def test_a_fork_server_that_was_stopped_is_replaced(alone):
    assert ask(alone, "harm_my_parent", signal.SIGSTOP) == signal.SIGSTOP
    late = ask(alone, "loop", timeout=0.3)
    assert late.status == "timeout"
    assert late.reason.startswith("no answer in 0.3 s")
    assert ask(alone, "echo", 3) == 3


def test_what_a_task_wrote_to_the_socket_of_its_rank_is_a_crash_with_one_reason(local):
    reason = "it wrote to the socket by which the suite asks it"
    assert ask(local, "echo", 1) == 1
    assert ask(local, "write_to_every_descriptor", b"A" * 64) == Fate("crash", reason)
    assert ask(local, "echo", 2) == 2


def test_an_object_that_would_run_code_where_it_is_read_runs_none(local, tmp_path):
    outcome = ask(local, "an_array_that_pickles_as_a_call", str(tmp_path / "executed"))
    assert outcome.tolist() == [1.0, 2.0]
    assert type(outcome) is np.ndarray
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("dtype", ["object", "datetime64[s]", "S3", "longdouble"])
def test_an_array_of_a_dtype_that_no_case_asks_for_is_a_wrong_answer(local, dtype):
    outcome = ask(local, "echo_as", dtype)
    assert isinstance(outcome, Raised)
    assert outcome.type == "WrongAnswer"
    assert outcome.message == f"gave an array of dtype {np.dtype(dtype)}, which no case asks for"


def test_more_bytes_than_an_answer_may_have_are_a_wrong_answer(local):
    [outcome] = local.run(Task("tasks_for_tests:echo", np.zeros(1000), limit=800), 20)
    assert outcome == Raised(
        "WrongAnswer",
        "gave 8000 bytes, where no answer has more than 800",
        outcome.bases,
        outcome.where,
    )


def test_what_a_task_says_that_it_changed_is_told_and_its_process_replaced(local):
    before = ask(local, "where_am_i")["pid"]
    assert ask(local, "change_something", "the folder") == "done"
    assert local.changes == ("the folder",)
    assert ask(local, "where_am_i")["pid"] != before
    assert local.changes == ()
