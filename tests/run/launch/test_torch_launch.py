"""Two torchrun agents on loopback, as on two machines."""

import signal
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torchrun is torch's")

from launches import Torchrun, until

from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder
from conformance.run import results
from conformance.run.launch.torch import TorchLaunch, sharing_of
from conformance.run.plan import make_plan

RANKS = Path(__file__).with_name("ranks_for_tests.py")
OURS = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def torchrun(started):
    return partial(started, Torchrun)


def statuses(run):
    return {f"{one.implementation}:{one.case}": one.status for one in run.records}


def test_four_ranks_on_two_nodes_are_exact_and_rank_0_writes(torchrun):
    launch = torchrun("gradient_mean/torch_manual_all_reduce:*mlp-w*")
    assert launch.wait() == [0, 0], launch.said()
    run = results.read(launch.results)
    assert run.conforms
    assert run.header["environment"]["launch"] == {"engine": "torchrun", "processes": 4}
    exact = [name for name, status in statuses(run).items() if status == "exact"]
    assert any("-w4-" in name for name in exact)
    too_many = [one for one in run.records if "-w8-" in one.case]
    assert {one.status for one in too_many} == {"unsupported"}
    assert too_many[0].reason == "8 ranks are asked for, this launch has 4"
    assert f"{len(too_many)} do not fit, and are unsupported here" in launch.said()
    assert not until(launch.living, 2)


def test_a_rank_that_fails_costs_its_own_check_and_the_ranks_meet_again(torchrun):
    launch = torchrun("--adapter", RANKS, "gradient_mean/[abcd]_*:mlp-w4-equal-k2*", timeout=30)
    assert launch.wait()[0] == 1, launch.said()
    assert 1 in launch.exit_codes()
    run = results.read(launch.results)
    case = run.records[0].case
    assert statuses(run) == {
        f"a_rank_raises:{case}": "error",
        f"b_rank_dies:{case}": "crash",
        f"c_more_collectives:{case}": "exact",
        f"d_right:{case}": "exact",
    }
    assert "rank 2: raised ValueError" in run.records[0].reason
    assert "rank 3: SIGKILL" in run.records[1].reason


def test_an_agent_that_is_killed_cuts_the_run_short_and_keeps_what_was_finished(torchrun):
    launch = torchrun("gradient_mean/torch_*")

    def has_begun():
        return launch.results.exists() and launch.results.read_text().count('"check"') >= 5

    assert until(has_begun, 120), launch.said()
    launch.nodes[1].send_signal(signal.SIGKILL)
    assert launch.wait()[0] != 0
    assert 3 in launch.exit_codes(), launch.said()
    assert "cut short: " in launch.said()
    run = results.read(launch.results)
    assert run.footer is None
    assert len(run.records) >= 5
    assert all(one.conforms for one in run.records)
    assert until(lambda: not launch.living(), 10), launch.living()


def test_a_launch_is_read_from_the_environment():
    assert TorchLaunch.here(OURS) == TorchLaunch(1, 4, "127.0.0.1:29500")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": None, "WORLD_SIZE": None}, r"not of a launch \(RANK, WORLD_SIZE not set\)"),
        ({"RANK": "one"}, "RANK is 'one'; a number is meant"),
    ],
)
def test_what_is_no_launch_is_told_how_to_start_one(change, words):
    environment = {k: v for k, v in {**OURS, **change}.items() if v is not None}
    with pytest.raises(UsageError, match=words):
        TorchLaunch.here(environment)


def test_a_worker_outside_of_a_launch_is_one_line_and_exit_2(cli):
    done = cli("worker")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "torchrun --nnodes 2" in done.stderr


def test_a_launch_of_one_rank_is_asked_what_fits_one():
    plan = make_plan(["gradient_mean/torch_ddp:*mlp-w*"])
    sharing = sharing_of(plan, 1)
    assert 0 < len(sharing.refused) < len(sharing.plan.checks)


def test_checks_that_need_no_ranks_are_refused_by_name():
    with pytest.raises(UsageError, match="is of an implementation that runs per rank, such as"):
        sharing_of(make_plan(["channel_shuffle/numpy_reshape"]), 4)


def test_a_folder_that_another_run_writes_to_ends_all_ranks(torchrun, tmp_path):
    with ReportFolder(tmp_path / "report"):
        launch = torchrun("gradient_mean/torch_manual_all_reduce:mlp-w4-equal-k2*")
        assert all(launch.wait())
    assert "another run writes to it" in launch.said()
    assert not until(launch.living, 2)
