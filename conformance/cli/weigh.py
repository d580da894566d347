"""The command that weighs somebody's own training steps: weigh."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conformance.cli.options import Seconds, say, tell
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder
from conformance.weighing.promises import PROMISES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.weighing.launch import Ending
    from conformance.weighing.verdict import Verdict

_RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command(context_settings=_RAW)
@click.option(
    "--ranks", type=click.IntRange(min=1), metavar="W",
    help="Start the script W times, as torchrun does on this machine.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(min=1), default=2, show_default=True, metavar="N",
    help="Optimizer steps to weigh; then the script is stopped.",
)  # fmt: skip
@click.option("--promise", type=click.Choice(PROMISES), help="What every item is to count.")
@click.option(
    "--report", "folder", type=Path, metavar="DIR", help="Write weights.json and a page there."
)
@click.option("--picture", type=Path, metavar="FILE.svg", help="Draw the first step there.")
@click.option(
    "--timeout", type=Seconds(), default=600.0, show_default=True,
    metavar="SECONDS", help="Without a step, before the script is ended.",
)  # fmt: skip
@click.option(
    "--trainers", is_flag=True, help='SCRIPT declares trainers (runs="trainer"): ask them all.'
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module's name.")
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS]...")
def weigh(
    ranks: int | None,
    steps: int,
    promise: str | None,
    folder: Path | None,
    picture: Path | None,
    timeout: float,
    script: str,
    arguments: tuple[str, ...],
    *,
    trainers: bool,
    module: bool,
) -> None:
    """What each sample or token counted for in the first steps of a torch training script.

    The script runs unmodified, with its own ARGUMENTS, until N steps of its optimizer are weighed.
    The gradient that an optimizer sees is a weighted sum of those of the losses; its
    weights are solved for, each with an interval, and the formula behind them is found: 1/N,
    1/(W·n_r), …

    \b
    conformance weigh train.py --epochs 3
    conformance weigh --ranks 2 --promise step_mean train.py
    conformance weigh --ranks 2 -m package.train --config small.toml
    torchrun --nproc-per-node 2 -m conformance weigh train.py
    conformance weigh --trainers my_trainer.py

    Without --promise only what is wrong under every promise counts against the script: ranks that
    disagree, items that count nothing, a gradient that is no weighted sum.

    Exit status: 0 as promised, 1 not, 2 the call was wrong, 3 nothing could be weighed or the run
    was cut short; a script that fails by itself keeps its own.
    """
    if not module and not Path(script).is_file():
        raise UsageError(f"no such script: {script}")
    if trainers:
        if module or arguments or promise or folder or picture:
            raise UsageError("--trainers takes a file, --ranks and --timeout, and nothing else")
        sys.exit(_ask_trainers(script, ranks or 2, timeout))
    call = [*(["-m"] if module else []), script, *arguments]
    with tempfile.TemporaryDirectory(prefix="conformance-weigh-") as scratch:
        if ranks is None and "TORCHELASTIC_RUN_ID" in os.environ:
            ending = _as_rank(Path(scratch), steps, script, arguments, module=module)
            if os.environ.get("RANK", "0") != "0":
                _leave(ending.status)
        else:
            from conformance.weighing.launch import run

            ending = run(Path(scratch), ranks, steps, call, timeout)
    status = _tell(ending, script, promise, folder, picture)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _leave(status)
    sys.exit(status)


def _ask_trainers(script: str, ranks: int, timeout: float) -> int:
    """Ask the trainers that a file declares, print the verdicts, and return the exit status."""
    from conformance.core.declarations import TRAINER
    from conformance.run.adapters import declared_by
    from conformance.weighing.trainer import QUESTIONS, ask
    from conformance.weighing.trainer_text import lines, status_of

    declared = [each for each in declared_by(script) if each.runs == TRAINER]
    if not declared:
        raise UsageError(f'{script}: declares no trainer; say runs="trainer", promise="1/N"')
    verdicts = []
    questions = [replace(question, world=ranks) for question in QUESTIONS]
    for trainer, verdict in ask(declared, questions, timeout):
        tell(lines(trainer.name, verdict))
        verdicts.append(verdict)
    return status_of(verdicts)


def _as_rank(
    scratch: Path, steps: int, script: str, arguments: tuple[str, ...], *, module: bool
) -> "Ending":
    """Weigh in this process, which torchrun started."""
    from conformance.weighing.launch import Ending, read_steps
    from conformance.weighing.torch_run import weigh_script

    status = weigh_script(scratch, steps, script, list(arguments), module=module)
    return Ending(read_steps(scratch), status, is_interrupted=status == 130)


def _leave(status: int) -> None:
    """End a rank without waiting for threads and groups that the script left behind."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _tell(
    ending: "Ending", script: str, promise: str | None, folder: Path | None, picture: Path | None
) -> int:
    """Print the verdict, write the report, and return the exit status."""
    from conformance.weighing.diagnosis import judge
    from conformance.weighing.text import lines, why_nothing

    verdicts = judge(ending.steps, promise)
    tell(lines(verdicts, Path(script).name, promise))
    tell(why_nothing(ending, verdicts, Path(script).name))
    if folder is not None and ending.steps:
        _report(folder, verdicts, script, promise)
    if picture is not None:
        from conformance.weighing.heat_map import pictures

        drawn = [drawing for v in verdicts for drawing in pictures(v.terms, v.world)]
        try:
            if drawn:
                picture.write_text(drawn[0], encoding="utf-8")
        except OSError as error:
            say(f"conformance: --picture {picture}: cannot be written ({error.strerror})")
    if ending.status and not ending.is_interrupted and not ending.is_late:
        return ending.status
    if any(verdict.is_fault for verdict in verdicts):
        return 1
    cut = ending.is_interrupted or ending.is_late
    return 3 if cut or not verdicts or not all(v.is_weighed for v in verdicts) else 0


def _report(folder: Path, verdicts: "Sequence[Verdict]", script: str, promise: str | None) -> None:
    """Write the report; where that fails, a line says so, and the verdict stays as it is."""
    from conformance.weighing.report import write

    try:
        with ReportFolder(folder, say) as opened:
            for file in write(opened, verdicts, script, promise):
                click.echo(file)
    except UsageError as error:
        say(f"conformance: {error}")
