"""Commands that look at the suite itself: list, explain, regen, mistakes, mutants and bench."""

import importlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import click
from rich.console import Console

from conformance.cli.options import (
    adapters_option,
    jobs_option,
    known_option,
    need_hypothesis,
    report_option,
    say,
    tell,
)
from conformance.core.interrupts import interruptible
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder


@click.command("list")
@click.argument(
    "what", type=click.Choice(["implementations", "cases", "clauses", "mistakes", "checks"])
)
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@adapters_option
@click.option("--json", "as_json", is_flag=True, help="An array of objects.")
def list_(
    what: str, patterns: tuple[str, ...], adapters: tuple[str, ...], *, as_json: bool
) -> None:
    """What there is: implementations, cases, clauses, mistakes or checks.

    \b
    conformance list implementations
    conformance list cases 'channel_shuffle:*dtype*'
    conformance list clauses --json
    """
    from conformance.cli import listing

    entries = listing.entries(what, patterns, adapters)
    if as_json:
        click.echo(listing.as_json(entries))
    else:
        tell(listing.as_lines(entries))


@click.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@adapters_option
@click.option(
    "--picture", metavar="FILE.png", help="A photograph case, before and after the shuffle."
)
def explain(ids: tuple[str, ...], adapters: tuple[str, ...], picture: str | None) -> None:
    """A check, case, clause, mistake, implementation or term in words.

    \b
    conformance explain S1 inverse-groups
    conformance explain not-exercised W spectrometer
    conformance explain channel_shuffle/torch_module@cpu:identity-probe-f32-c12-g3
    conformance explain channel_shuffle:photographs-u8 --picture shuffle.png
    """
    from conformance.cli import explained

    tell(explained.explain(*ids, adapters=adapters))
    if picture is not None:
        from conformance.cli.picture import draw

        click.echo(draw(explained.photographs_among(ids), Path(picture)))


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a byte would differ.")
def regen(patterns: tuple[str, ...], *, check: bool) -> None:
    """Make the goldens again from the definition, to the same bytes on every machine.

    \b
    conformance regen --check
    conformance regen
    """
    from conformance.cli import regeneration

    differences = regeneration.regen(patterns, check=check, say=say)
    for line in differences:
        click.echo(line)
    if not differences:
        click.echo("goldens are as the suite makes them")
    elif check:
        click.echo("goldens differ; `conformance regen` writes them")
        sys.exit(1)
    else:
        click.echo("goldens written")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Every (mistake, case) that kills.")
def mistakes(*, as_json: bool) -> None:
    """Every known mistake against every case: which case kills it, and whether it is named.

    Exit 1 if one is caught by fewer than three families, is never named or is given another's name,
    passes inside a bound, or if a case kills nothing and has no reason to be there.

    \b
    conformance mistakes
    conformance mistakes --json
    """
    from conformance.cli import listing
    from conformance.proofs import kill_matrix, kill_table
    from conformance.proofs.bound_margins import margins
    from conformance.report.progress import counted
    from conformance.subjects import all_cases

    kills = kill_matrix.kills(progress=counted(len(all_cases()), say))
    bound_margins = margins(all_cases())
    missing = kill_matrix.shortcomings(kills, all_cases())
    missing += [f"{m.mistake}: inside the bound of {m.case}" for m in bound_margins if m.is_hidden]
    if as_json:
        click.echo(listing.as_json(kill_matrix.as_objects(kills)))
    else:
        kill_table.show(kills, bound_margins, Console())
    for line in missing:
        click.echo(line, err=True)
    sys.exit(1 if missing else 0)


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@adapters_option
@report_option
@jobs_option
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N",
    help="Only N mutants of each implementation, spread over its source.",
)  # fmt: skip
@known_option
def mutants(
    patterns: tuple[str, ...],
    adapters: tuple[str, ...],
    folder: str,
    jobs: int,
    sample: int | None,
    known: Path | None,
) -> None:
    """Change right implementations mechanically, one change at a time, and see what the suite sees.

    PATTERN means implementations, as operation/implementation. A mutant that no case of the suite
    sees is asked 1,000 drawn cases: right in all, it is equivalent; else it survived, and a case is
    missing. What is measured is in DIR/mutants.jsonl at once, and is not measured again.

    \b
    conformance mutants channel_shuffle/torch_reshape
    conformance mutants 'gradient_mean/torch_*' --sample 10

    Exit status: 0 the suite sees every one that differs, 1 some survived, 2 the call was wrong, or
    an implementation does not conform as it is, 3 it was cut short.
    """
    from conformance.run.plan import known_differences, make_players

    need_hypothesis()
    from conformance.proofs.mutants import printed as mutated
    from conformance.proofs.mutants.campaign import Campaign
    from conformance.report.progress import now_and_then

    progress = now_and_then(say)
    with interruptible(), ReportFolder(Path(folder), say) as report_folder:
        campaign = Campaign(
            report_folder,
            known=known_differences(known),
            on_measured=lambda mutant: progress(f"{mutant.outcome.fate} {mutant.id}"),
        )
        chosen = [implementation for implementation, _ in make_players(patterns, adapters=adapters)]
        measured, is_whole = campaign.run(chosen, jobs, sample)
        mutated.show(measured, Console(), is_whole=is_whole)
    if any(mutant.outcome.fate == "survived" for mutant in measured):
        sys.exit(1)
    if not is_whole:
        sys.exit(3)


@click.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@click.option(
    "--world-size", "world_sizes", type=click.Choice(["2", "4", "8"]), multiple=True,
    default=("2", "4"), show_default=True, metavar="W", help="Ranks; may be given several times.",
)  # fmt: skip
@click.option(
    "--repeat", type=click.IntRange(1, 20), default=3, show_default=True, metavar="N",
    help="Checks in fresh processes, for each W; one takes 5 to 25 s.",
)  # fmt: skip
def bench(patterns: tuple[str, ...], world_sizes: tuple[str, ...], repeat: int) -> None:
    """Measure what this machine takes; PATTERN is a benchmark's name.

    \b
    conformance bench worlds                             a pool of ranks against fresh processes
    conformance bench worlds --world-size 2 --repeat 1   in half a minute
    conformance bench worlds --world-size 2 --world-size 4 --world-size 8

    Ctrl-C ends it and exits with 3; what was measured is printed by then.
    """
    for pattern in patterns:
        if not fnmatchcase("worlds", pattern):
            raise UsageError(f"no benchmark matches {pattern!r}; known: worlds")
    script = bench_script()
    # Ranks import the script by its name, too.
    sys.path.append(str(script.parent))
    run = importlib.import_module(script.stem).run
    try:
        run(tuple(dict.fromkeys(map(int, world_sizes))), repeat)
    except KeyboardInterrupt:
        sys.exit(3)


def bench_script() -> Path:
    """Returns the benchmark: in `ci/` of a checkout, or inside an installed package."""
    package = Path(__file__).parents[1]
    for folder in (package, package.parent):
        script = folder / "ci" / "bench_pool.py"
        if script.is_file():
            return script
    raise UsageError("bench worlds: ci/bench_pool.py is not here; a checkout has it")
