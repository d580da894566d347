"""Two JAX processes of four devices each on loopback, as on two machines."""

import signal
from functools import partial

import pytest

pytest.importorskip("jax", reason="a JAX launch needs JAX")

from launches import Jax, until

from conformance.core.outcomes import UsageError
from conformance.run import results
from conformance.run.launch.jax import JaxLaunch, sharing_of
from conformance.run.plan import make_plan


@pytest.fixture
def jax(started):
    return partial(started, Jax)


def test_two_processes_of_four_devices_are_exact_and_process_0_writes(jax):
    launch = jax(
        "gradient_mean/jax_shard_map:jax-processes-*",
        "gradient_mean/jax_shard_map:linear-w8-*",
        "gradient_mean/jax_jit_sharding:linear-w8-*",
        "gradient_mean/jax_pmap:linear-w8-*",
    )
    assert launch.wait() == [0, 0], launch.said()
    run = results.read(launch.results)
    assert run.conforms
    assert run.header["environment"]["launch"] == {"engine": "jax.distributed", "processes": 2}
    found = {f"{one.implementation}:{one.case}": one for one in run.records}
    exact = {name for name, one in found.items() if one.status == "exact"}
    assert {f"jax_shard_map:jax-processes-mean-d4-n{n}" for n in (1, 2, 4)} <= exact
    assert {name for name in found if name.startswith(("jax_jit", "jax_shard_map:lin"))} <= exact
    other = found["jax_shard_map:jax-processes-mean-d2-n1"]
    assert other.status == "unsupported"
    assert other.reason == (
        "2 processes with 2 devices each are asked for, this launch has 2 with 4"
    )
    by_pmap = [one for name, one in found.items() if name.startswith("jax_pmap")]
    assert {one.status for one in by_pmap} == {"unsupported"}


def test_a_process_that_is_killed_cuts_the_run_short_and_keeps_what_was_finished(jax):
    launch = jax("gradient_mean/jax_*")

    def has_begun():
        return launch.results.exists() and launch.results.read_text().count('"exact"') >= 2

    assert until(has_begun, 200), launch.said()
    launch.nodes[1].send_signal(signal.SIGKILL)
    assert launch.wait()[0] == 3, launch.said()
    assert "cut short: rank 1 has given no sign of life" in launch.said()
    run = results.read(launch.results)
    assert run.footer is None
    assert all(one.conforms for one in run.records)
    assert until(lambda: not launch.living(), 10), launch.living()


def test_what_does_not_fit_a_launch_says_what_would():
    launch = JaxLaunch(0, 3, 2, "127.0.0.1")
    sharing = sharing_of(make_plan(["gradient_mean/jax_shard_map:linear-*"]), launch)
    assert set(sharing.refused) == {check.id for check in sharing.plan.checks}
    assert "8 devices are asked for, all 6 of this launch take part" in sharing.refused.values()


def test_checks_of_others_are_refused_by_name():
    launch = JaxLaunch(0, 2, 4, "127.0.0.1")
    with pytest.raises(UsageError, match="is of JAX over several devices, such as"):
        sharing_of(make_plan(["gradient_mean/torch_ddp"]), launch)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jax", "--process", "1"], "of three options some are missing"),
        (
            ["--jax", "--coordinator", "127.0.0.1:1", "--processes", "2", "--process", "2"],
            "process 2 of 2; 0 to N - 1 is meant",
        ),
        (["--process", "1"], "--coordinator, --processes and --process go with --jax"),
    ],
)
def test_a_call_that_joins_nothing_is_one_line_and_exit_2(cli, arguments, words):
    done = cli("worker", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
