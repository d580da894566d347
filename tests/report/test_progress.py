import io
from types import SimpleNamespace

from rich.console import Console

from conformance.core.implementations import own
from conformance.report.progress import EVERY, Watch
from conformance.run.costs import recorded
from tests.report.records import record

HEADER = {"checks": 4, "environment": {"packages": {"torch": "2.13.0"}}}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def watched(names, seconds, **console):
    """What is printed while a check of each of these ends, some seconds after the one before."""
    declared = {one.name: one for one in own() if one.operation == "channel_shuffle"}
    unweighted = SimpleNamespace(id="channel_shuffle:none")
    checks = [
        SimpleNamespace(
            id=f"channel_shuffle/{name}@cpu:{n}", implementation=declared[name], case=unweighted
        )
        for n, name in enumerate(names)
    ]
    stream, clock = io.StringIO(), Clock()
    with Watch(Console(file=stream, **console), checks, clock) as watch:
        watch.start(HEADER)
        for n, (name, passed, status) in enumerate(seconds):
            clock.now += passed
            watch.record(record(name, str(n), "1", status))
    return stream.getvalue().splitlines()


def test_a_line_has_what_is_done_what_failed_and_what_is_left():
    names = ["torch_module"] * 4
    lines = watched(names, [("torch_module", EVERY, "exact"), ("torch_module", EVERY, "fail")])
    assert lines == [
        "starting the frameworks",
        "4 checks, about 10 s; torch 2.13.0",
        "1/4 checks, about 10 s left",
        "2/4 checks, 1 failed, about 10 s left",
    ]


def test_the_estimate_weighs_checks_by_their_recorded_costs():
    cheap, dear = "torch_module", "torch_compile"
    cost = 100 * recorded()[f"channel_shuffle/{dear}"]
    assert cost > 20
    *_, line = watched([cheap, *[dear] * 100], [(cheap, EVERY, "exact")])
    assert line.endswith(f"about {-int(-cost * (EVERY + 20) / 20 // 10) * 10} s left")
    *_, line = watched([cheap] * 100, [(cheap, EVERY, "exact")])
    assert line.endswith("about 10 s left")


def test_a_slow_first_check_does_not_stand_for_all():
    *_, line = watched(["torch_compile"] * 100, [("torch_compile", 2 * EVERY, "exact")])
    assert line.endswith("about 1 min left")


def test_the_first_estimate_is_of_the_recorded_costs_until_a_few_seconds_have_passed():
    *_, line = watched(["torch_module"] * 4, [("torch_module", 1.0, "exact")])
    assert line == "4 checks, about 10 s; torch 2.13.0"


def test_lines_in_a_pipe_come_seldom():
    names = ["torch_module"] * 4
    seconds = [("torch_module", EVERY / 2, "exact")] * 4
    assert len(watched(names, seconds)) == 4


def test_a_terminal_of_80_columns_has_room_for_the_whole_line():
    names = ["torch_module"] * 4
    lines = watched(names, [("torch_module", EVERY, "fail")] * 3, force_terminal=True, width=80)
    assert any("3/4 checks, 3 failed, about 10 s left" in line for line in lines)
