"""The command line, which reads a call and passes it on to the room that does the work."""

import signal
import sys
from pathlib import Path

import click

import conformance
from conformance.cli.compare import compare
from conformance.cli.init import init
from conformance.cli.neighbours import neighbours
from conformance.cli.options import say
from conformance.cli.output import outlive_readers
from conformance.cli.results import diff, report
from conformance.cli.run import fuzz, run, worker
from conformance.cli.suite import bench, explain, list_, mistakes, mutants, regen
from conformance.cli.weigh import weigh
from conformance.core import temporary
from conformance.core.outcomes import UsageError
from conformance.run.configuration import configuration


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(getattr(conformance, "__version__", None), prog_name="conformance")
@click.pass_context
def commands(context: click.Context) -> None:
    """Ask every question about channel shuffle and gradient averaging, and say who conforms.

    \b
    conformance init mine.py:my_shuffle               your own function, in a minute
    conformance run                                   everything that is here
    conformance run 'channel_shuffle/torch_*'         one operation, some implementations
    conformance run --adapter mine.py '*/my_shuffle'  your own
    conformance explain inverse-groups                a mistake, clause, case or check, in words
    conformance compare torch:a.py:f jax:b.py:g --input 2,16     a port, layer by layer
    conformance weigh --ranks 2 train.py              what each sample of a script counts for

    A PATTERN is a shell glob over check ids, operation/implementation@device:case, in which the
    end parts may be left out. Exit status: 0 all conform, 1 some do not, 2 the call or its input
    was wrong, 3 the run was cut short, or nothing was tested.
    """
    project = configuration(Path.cwd())
    if project.file is not None and context.invoked_subcommand in project.options:
        say(f"settings of {project.file}")
        context.default_map = project.options


# What each is for, short enough for a line of 80 columns.
_COMMANDS = {
    init: "Write an adapter and a test for your own code, and ask it.",
    run: "Ask checks, and write a report.",
    worker: "Be one process of a run on several machines.",
    fuzz: "Ask new cases, drawn at random.",
    compare: "Hold a port to its original, module by module.",
    weigh: "Read off what each sample of a training script counted for.",
    report: "Merge runs of several devices, versions and shards.",
    diff: "Say what changed from one run to another.",
    list_: "List implementations, cases, clauses, mistakes or checks.",
    explain: "Explain a check, case, clause, mistake or word.",
    regen: "Make the goldens again from the definition.",
    mistakes: "Answer every case with every known mistake.",
    mutants: "Change right code mechanically, and see what is seen.",
    bench: "Measure what this machine takes.",
}
for _command, _words in _COMMANDS.items():
    _command.short_help = _words
    commands.add_command(_command)


def main(*, is_armed: bool = False) -> None:
    """Runs the console script: wrong input is one line and exit status 2.

    Args:
        is_armed: whether Ctrl-C is to be a KeyboardInterrupt from here on.
    """
    try:
        if is_armed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        outlive_readers()
        temporary.choose()
        if words := neighbours():
            say(f"conformance: {words}")
        commands(standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UsageError as error:
        say(f"conformance: {error}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # What is left to do takes moments.
        say("conformance: interrupted")
        sys.exit(3)
