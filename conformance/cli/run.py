"""Commands that ask implementations: run, worker and fuzz."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from conformance.cli.options import (
    Seconds,
    adapters_option,
    devices_option,
    everything_option,
    jobs_option,
    json_option,
    known_option,
    need_hypothesis,
    report_option,
    say,
    shown,
    timeout_option,
)
from conformance.core.interrupts import interruptible
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@devices_option
@adapters_option
@report_option
@jobs_option
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the checks.")
@timeout_option(120.0)
@everything_option
@click.option(
    "--quick", is_flag=True,
    help="Where no PATTERN names cases, ask few, which no known mistake passes.",
)  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Stop at the first check that does not conform.")
@click.option(
    "--case", "cases", metavar="FILE.json|JSON", multiple=True,
    help="Ask this case, of no suite, instead of the suite's own; may be given several times.",
)  # fmt: skip
@click.option(
    "--last-failed",
    is_flag=True,
    help="Ask what did not conform in the run that DIR holds; the answers go to DIR/last-failed.",
)
@known_option
@json_option
def run(
    patterns: tuple[str, ...],
    devices: tuple[str, ...],
    adapters: tuple[str, ...],
    cases: tuple[str, ...],
    folder: str,
    jobs: int,
    shard: str | None,
    timeout: float,
    known: Path | None,
    *,
    quick: bool,
    fail_fast: bool,
    last_failed: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Ask the checks that PATTERN means, and write DIR/results.jsonl.

    Without PATTERN these are the checks of the adapters, and all checks where there is no adapter.
    A project says its own adapters, patterns, timeout, quick and known in [tool.conformance].

    \b
    conformance run --quick
    conformance run
    conformance run 'channel_shuffle/jax_*:identity-probe*' --report /tmp/jax
    conformance run --adapter examples/wrong_shuffle.py 'channel_shuffle/wrong_*'
    conformance run --last-failed

    Exit status: 0 all conform, 1 some do not, 2 the call was wrong, 3 the run was cut short, or
    nothing was tested.
    """
    from conformance.report.progress import Watch
    from conformance.run import runner
    from conformance.run.last_failed import last_failed as what_failed
    from conformance.run.plan import make_plan

    again = None
    if last_failed:
        again = what_failed(Path(folder), patterns)
        patterns, folder = again.checks, str(again.folder)
        adapters, cases = adapters or again.adapters, cases or again.cases
    with interruptible():
        plan = make_plan(patterns, devices, adapters, shard, cases, quick=quick, known=known)
        plan = replace(plan, last_failed=again.entry) if again else plan
        with ReportFolder(Path(folder), say) as report_folder:
            with Watch(Console(stderr=True), plan.checks, jobs=jobs) as watch:
                finished = runner.run(
                    plan,
                    report_folder,
                    jobs=jobs,
                    timeout=timeout,
                    fail_fast=fail_fast,
                    on_start=watch.start,
                    on_record=watch.record,
                )
            shown(finished, report_folder, everything=everything, as_json=as_json)
    if any(not record.conforms for record in finished.records) and (fail_fast or finished.footer):
        sys.exit(1)
    if finished.footer is None or finished.untested:
        sys.exit(3)


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@devices_option
@adapters_option
@report_option
@timeout_option(120.0)
@everything_option
@click.option("--jax", is_flag=True, help="JAX is the engine, not torchrun.")
@click.option("--coordinator", metavar="HOST:PORT", help="Of JAX's process 0.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N", help="How many JAX has.")
@click.option("--process", type=click.IntRange(min=0), metavar="I", help="Which of JAX's it is.")
@click.option(
    "--cpu-devices", type=click.IntRange(min=1), default=1, show_default=True, metavar="D",
    help="CPU devices of each of JAX's processes.",
)  # fmt: skip
def worker(
    patterns: tuple[str, ...],
    devices: tuple[str, ...],
    adapters: tuple[str, ...],
    folder: str,
    timeout: float,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    cpu_devices: int,
    *,
    jax: bool,
    everything: bool,
) -> None:
    """Be one process of a run on several machines; torchrun or JAX starts it on each of them.

    \b
    torchrun --nnodes 2 --node-rank 0 --nproc-per-node 2 --master-addr HOST --master-port 29500 \\
        -m conformance worker 'gradient_mean/torch_*'
    torchrun … --node-rank 1 …                  the same on the second machine
    srun -N 2 conformance worker --jax          where JAX finds its cluster itself
    conformance worker --jax --coordinator HOST:29501 --processes 2 --process 0 --cpu-devices 4
    conformance worker --jax …  --process 1 …   the same on the second machine

    All processes are given the same arguments. Rank 0 writes DIR/results.jsonl, on its machine.
    Cases of more ranks than the launch has are unsupported, and the run says how many fit.

    Exit status of rank 0: as of `run`; of the others 0. It is 3 in all that are left when a process
    or a machine is lost: what was finished is kept. torchrun itself knows 0 and 1 alone, and shows
    a worker's own status in its summary; JAX aborts the others where process 0 is lost.
    """
    from conformance.report.progress import Watch
    from conformance.run.launch import CutShortError, left, ranks
    from conformance.run.launch import jax as jax_launch
    from conformance.run.launch import torch as torch_launch
    from conformance.run.plan import make_plan

    if not jax and (coordinator, processes, process) != (None, None, None):
        raise UsageError("worker: --coordinator, --processes and --process go with --jax")
    try:
        plan = make_plan(patterns, devices, adapters)
        watch = Watch(Console(stderr=True), plan.checks)
        joined = (
            jax_launch.joined(plan, coordinator, processes, process, cpu_devices)
            if jax
            else torch_launch.joined(plan)
        )
        with interruptible():
            if joined.launch.rank:
                ranks.run(joined, None, timeout, say, watch)
                return
            report_folder = ReportFolder(Path(folder), say)
            with ExitStack() as stack:
                with watch:
                    finished = ranks.run(
                        joined, lambda: stack.enter_context(report_folder), timeout, say, watch
                    )
                assert finished is not None, "rank 0 has the run"
                shown(finished, report_folder, everything=everything)
    except (CutShortError, KeyboardInterrupt) as ended:
        say(f"conformance: cut short: {ended or 'interrupted'}")
        left(3)
    if finished.footer is None:
        left(3)
    sys.exit(0 if finished.conforms else 3 if finished.untested else 1)


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@devices_option
@adapters_option
@report_option
@click.option(
    "--seconds", type=Seconds(), default=60.0, show_default=True,
    metavar="S", help="For how long to draw.",
)  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Draw the same cases again.")
@timeout_option(20.0)
@known_option
def fuzz(
    patterns: tuple[str, ...],
    devices: tuple[str, ...],
    adapters: tuple[str, ...],
    folder: str,
    seconds: float,
    seed: int | None,
    timeout: float,
    known: Path | None,
) -> None:
    """Draw new cases, answer them with the oracle, and shrink what fails to the simplest case.

    PATTERN means implementations, as operation/implementation. Failures are in DIR/fuzz.jsonl as
    they are found, and their cases in DIR/fuzz/, which `conformance run --case FILE` asks again.

    \b
    conformance fuzz --seconds 300
    conformance fuzz --adapter mine.py channel_shuffle/my_shuffle
    conformance fuzz 'gradient_mean/torch_*' --seed 7
    """
    import secrets

    from conformance.run.plan import known_differences, make_players

    need_hypothesis()
    from conformance.proofs import fuzz as fuzzing
    from conformance.proofs.fuzz import printed as fuzzed
    from conformance.report.progress import now_and_then

    settings = fuzzing.Settings(seconds, secrets.randbits(32) if seed is None else seed, timeout)
    tell = now_and_then(say)
    with interruptible(), ReportFolder(Path(folder), say) as report_folder:
        done = fuzzing.run(
            make_players(patterns, devices, adapters),
            settings,
            report_folder,
            known=known_differences(known),
            adapters=adapters,
            on_check=lambda check, asked: tell(f"{asked} asked, at {check.id}"),
        )
        fuzzed.show(done, Console())
    if done.ledger.failures:
        sys.exit(1)
    if not done.is_whole:
        sys.exit(3)
