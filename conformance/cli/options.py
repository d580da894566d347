"""The options that several commands take, and what several commands do at their end."""

import json
import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from conformance.core.interrupts import uninterrupted
from conformance.core.outcomes import UsageError
from conformance.core.outside_words import one_line
from conformance.core.report_folder import ReportFolder

if TYPE_CHECKING:
    from conformance.run.results import Run

_DIR = "conformance-report"

devices_option = click.option(
    "--device",
    "devices",
    metavar="cpu|cuda|cuda:N|tpu|mps|all",
    multiple=True,
    default=("cpu",),
    show_default="cpu",
    help="Where to ask; may be given several times. `all` goes on with what is here.",
)
adapters_option = click.option(
    "--adapter",
    "adapters",
    metavar="FILE.py|MODULE",
    multiple=True,
    help="Code from outside that uses @conformance.implementation; may be given several times.",
)
report_option = click.option(
    "--report", "folder", default=_DIR, metavar="DIR", show_default=True, help="Where reports go."
)
everything_option = click.option(
    "--all", "everything", is_flag=True,
    help="Print a row for each implementation and reason, and all failures.",
)  # fmt: skip
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else on stdout."
)
known_option = click.option(
    "--known", metavar="FILE.toml", type=click.Path(path_type=Path),
    help="More differences on record, which do not count, as impls/known.toml has them.",
)  # fmt: skip
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), default=2, show_default=True, metavar="N",
    help="Checks at once.",
)  # fmt: skip


class Seconds(click.FloatRange):
    """A number of seconds that a clock can wait: above 0, and at most a week."""

    name = "seconds"

    def __init__(self) -> None:
        """Sets the range."""
        super().__init__(min=0, max=7 * 86_400, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Reads the number; NaN is in no range."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def timeout_option(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the option of the seconds that one check may take, with this default."""
    return click.option(
        "--timeout",
        type=Seconds(),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="For one check; time in which it has no processor does not count, up to twice that.",
    )


def shown(
    run: "Run", folder: ReportFolder, *, everything: bool = False, as_json: bool = False
) -> Path | None:
    """Writes the reports of a run beside its results, prints it, and returns the page, if any."""
    from conformance.report import forms, page, terminal
    from conformance.report.as_json import of_summary
    from conformance.report.summary import summarize
    from conformance.run.results import FILE

    summary = summarize(run)
    with uninterrupted():
        written = forms.write(summary, folder)
        if as_json:
            click.echo(json.dumps(of_summary(summary)))
        else:
            terminal.show(summary, Console(), everything=everything)
            if (folder.path / FILE).is_file():
                click.echo(f"{folder.path / FILE}")
            if written is not None:
                click.echo(written)
            elif not page.is_possible() and not summary.nothing_answered:
                click.echo("no page: Jinja2 makes it: pip install jinja2")
    return written


def say(line: str) -> None:
    """Prints progress, on stderr: it is not what was asked for."""
    click.echo(one_line(line), err=True)


def tell(lines: str | Iterable[str]) -> None:
    """Prints lines of what was asked for; of a text, its lines."""
    for line in lines.split("\n") if isinstance(lines, str) else lines:
        click.echo(one_line(line))


def need_hypothesis() -> None:
    """Raises UsageError where Hypothesis is not installed."""
    if find_spec("hypothesis") is None:
        raise UsageError("Hypothesis draws the cases: pip install hypothesis")
