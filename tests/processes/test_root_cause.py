"""Which rank's outcome is that of the whole, and what is said of it."""

import pytest

from conformance.core.outcomes import Answer, Declined, Fate, Raised
from conformance.processes import verdict_rank
from conformance.processes.exit_reasons import exit_reason
from conformance.processes.stack_frames import described

ANSWER = Answer({})
CRASH = Fate("crash", "SIGSEGV")
LATE = Fate("timeout", "no answer in 5 s; it was in a.py:3, in f")
WAITING = Fate("timeout", "no answer in 5 s; it was in a.py:3, in f, inside all_reduce")
ERROR = Raised("ValueError", "bad shard")
LOST = Raised("RuntimeError", "pair.cc:553] Connection closed by peer [127.0.0.1]:17318")
ABORTED = Fate("crash", "SIGABRT; it last wrote: F1 This indicates that another task died")
DECLINED = Declined("unsupported", "no")

BY_URGENCY = [CRASH, ABORTED, ERROR, LATE, WAITING, LOST, DECLINED, ANSWER]


@pytest.mark.parametrize("place", range(len(BY_URGENCY) - 1))
def test_a_cause_comes_before_what_follows_from_it(place):
    more, less = BY_URGENCY[place : place + 2]
    assert verdict_rank([less, more]) == 1
    assert verdict_rank([more, less]) == 0


def test_of_equals_the_first_rank_counts():
    assert verdict_rank([ANSWER, ERROR, ERROR]) == 1


def test_a_status_or_a_signal_is_named():
    assert [exit_reason(s) for s in (3, -11, -35)] == ["exit status 3", "SIGSEGV", "signal 35"]


DUMP = """\
Thread 0x00007f0000000001 (most recent call first):
  File "/home/me/work/worker.py", line 9 in run

Thread 0x00007f0000000002 (most recent call first):
  File "/venv/lib/python3.11/site-packages/torch/distributed/c10d.py", line 2169 in all_reduce
  File "/home/me/work/impls/mine.py", line 12 in sync
  File "/home/me/work/main.py", line 80 in main
"""


def test_a_stack_is_told_by_the_innermost_line_of_ones_own_in_the_main_thread():
    assert described(DUMP, "/home/me/work") == "impls/mine.py:12, in sync, inside all_reduce"
    assert described(DUMP, "/elsewhere") == (
        "/home/me/work/impls/mine.py:12, in sync, inside all_reduce"
    )


def test_a_stack_without_any_line_of_ones_own_is_told_by_the_innermost():
    lines = DUMP.splitlines()
    assert described("\n".join(lines[3:5]), "/").endswith("c10d.py:2169, in all_reduce")


def test_no_stack_is_told_by_nothing():
    assert described("", "/") == ""
    assert (
        described("Current thread 0x01 (most recent call first):\n  <no Python frame>", "/") == ""
    )
