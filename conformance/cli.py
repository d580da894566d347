"""The command line: it reads the call, and hands over."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

import conformance
from conformance.errors import UsageError

if TYPE_CHECKING:
    from conformance.results import Run

DIR = "conformance-report"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(conformance.__version__, prog_name="conformance")
def commands() -> None:
    """Ask every question about channel shuffle and gradient averaging, and say who conforms.

    \b
    conformance run                                   everything that is here
    conformance run channel_shuffle/torch_*           one operation, some implementations
    conformance run --adapter mine.py '*/my_shuffle'  your own
    conformance explain inverse-groups                a mistake, clause, case or check, in words

    A PATTERN is a shell glob over check ids, operation/implementation@device:case, in which the
    end parts may be left out. Exit status: 0 all conform, 1 some do not, 2 the call or its input
    was wrong, 3 the run was cut short.
    """


# What several commands take.
_devices = click.option(
    "--device",
    "devices",
    metavar="cpu|cuda|cuda:N|tpu|mps|all",
    multiple=True,
    default=("cpu",),
    show_default="cpu",
    help="Where to ask; may be given several times. `all` goes on with what is here.",
)
_adapters = click.option(
    "--adapter",
    "adapters",
    metavar="FILE.py|MODULE",
    multiple=True,
    help="Code from outside that uses @conformance.implementation; may be given several times.",
)
_report = click.option("--report", "folder", default=DIR, metavar="DIR", show_default=True)
_jobs = click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)


def _timeout(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="For one check.",
    )


@commands.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@_devices
@_adapters
@_report
@_jobs
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the checks.")
@_timeout(120.0)
@click.option("--fail-fast", is_flag=True, help="Stop at the first check that does not conform.")
@click.option(
    "--case", "cases", metavar="FILE.json|JSON", multiple=True,
    help="Ask this case, of no suite, instead of the suite's own; may be given several times.",
)  # fmt: skip
def run(
    patterns: tuple[str, ...],
    devices: tuple[str, ...],
    adapters: tuple[str, ...],
    cases: tuple[str, ...],
    folder: str,
    jobs: int,
    shard: str | None,
    timeout: float,
    *,
    fail_fast: bool,
) -> None:
    """Ask the checks that PATTERN means, and write DIR/results.jsonl.

    \b
    conformance run
    conformance run 'channel_shuffle/jax_*:identity-probe*' --report /tmp/jax
    conformance run --adapter examples/wrong_shuffle.py 'channel_shuffle/wrong_*'
    """
    from conformance import runner
    from conformance.plan import make_plan
    from conformance.report.progress import Watch

    plan = make_plan(patterns, devices, adapters, shard, cases)
    with Watch(Console(stderr=True)) as watch:
        finished = runner.run(
            plan,
            Path(folder),
            jobs=jobs,
            timeout=timeout,
            fail_fast=fail_fast,
            on_start=watch.start,
            on_record=watch.record,
        )
    click.echo(_where(_shown(finished, Path(folder))))
    if any(not record.conforms for record in finished.records) and (fail_fast or finished.footer):
        sys.exit(1)
    if finished.footer is None:
        sys.exit(3)


@commands.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@_devices
@_adapters
@_report
@_timeout(120.0)
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
    from conformance.plan import make_plan
    from conformance.report.progress import Watch
    from conformance.worker import CutShortError, jax_launch, left, ranks, torch_launch

    if not jax and (coordinator, processes, process) != (None, None, None):
        raise UsageError("worker: --coordinator, --processes and --process go with --jax")
    watch = Watch(Console(stderr=True))
    try:
        plan = make_plan(patterns, devices, adapters)
        joined = (
            jax_launch.joined(plan, coordinator, processes, process, cpu_devices)
            if jax
            else torch_launch.joined(plan)
        )
        with nullcontext() if joined.launch.rank else watch:
            finished = ranks.run(joined, Path(folder), timeout, _say, watch)
    except CutShortError as ended:
        click.echo(f"conformance: cut short: {ended}", err=True)
        left(3)
    if finished is None:
        return
    _shown(finished, Path(folder))
    if finished.footer is None:
        left(3)
    sys.exit(0 if finished.conforms else 1)


@commands.command("list")
@click.argument(
    "what", type=click.Choice(["implementations", "cases", "clauses", "mistakes", "checks"])
)
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@_adapters
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
    from conformance import listing

    entries = listing.entries(what, patterns, adapters)
    click.echo(listing.as_json(entries) if as_json else listing.as_lines(entries))


@commands.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@_adapters
@click.option(
    "--picture", metavar="FILE.png", help="A photograph case, before and after the shuffle."
)
def explain(ids: tuple[str, ...], adapters: tuple[str, ...], picture: str | None) -> None:
    """A check, case, clause, mistake or implementation in words.

    \b
    conformance explain S1 inverse-groups
    conformance explain channel_shuffle/torch_module@cpu:identity-probe-f32-c12-g3
    conformance explain channel_shuffle:photographs-u8 --picture shuffle.png
    """
    from conformance import explaining

    click.echo("\n\n".join(explaining.explain(name, adapters) for name in ids))
    if picture is not None:
        from conformance.report.picture import draw

        click.echo(draw(explaining.photographs_among(ids), Path(picture)))


@commands.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a byte would differ.")
def regen(patterns: tuple[str, ...], *, check: bool) -> None:
    """Make the goldens again from the definition, to the same bytes on every machine.

    \b
    conformance regen --check
    conformance regen
    """
    from conformance import regeneration

    differences = regeneration.regen(patterns, check=check, say=_say)
    for line in differences:
        click.echo(line)
    if not differences:
        click.echo("goldens are as the suite makes them")
    elif check:
        click.echo("goldens differ; `conformance regen` writes them")
        sys.exit(1)
    else:
        click.echo("goldens written")


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Every (mistake, case) that kills.")
def mistakes(*, as_json: bool) -> None:
    """Every known mistake against every case: which case kills it, and whether it is named.

    Exit 1 if one is caught by fewer than three families, is never named or is given another's name,
    passes inside a bound, or if a case kills nothing and has no reason to be there.

    \b
    conformance mistakes
    conformance mistakes --json
    """
    from conformance import killing, listing
    from conformance.calibration import margins
    from conformance.cases import all_cases
    from conformance.report import kill_table
    from conformance.report.progress import counted

    found = killing.kills(progress=counted(len(all_cases()), _say))
    calibrated = margins(all_cases())
    missing = killing.shortcomings(found, all_cases())
    missing += [f"{m.mistake}: inside the bound of {m.case}" for m in calibrated if m.is_hidden]
    if as_json:
        click.echo(listing.as_json(killing.as_objects(found)))
    else:
        kill_table.show(found, calibrated, Console())
    for line in missing:
        click.echo(line, err=True)
    sys.exit(1 if missing else 0)


@commands.command()
@click.argument("files", metavar="RESULTS.jsonl…", nargs=-1, required=True, type=Path)
@click.option("--to", "folder", metavar="DIR", required=True, help="Where the report goes.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def report(files: tuple[Path, ...], folder: str, *, opens: bool) -> None:
    """Merge runs of several devices, versions and shards, and report on all of them.

    \b
    conformance report conformance-report/results.jsonl --to again
    conformance report shard-*/results.jsonl --to merged
    conformance report cpu/results.jsonl cuda/results.jsonl --to both --open

    DIR gets results.jsonl, in which every check says which run it is of, and what is made of it:
    index.html (a page that needs no network), junit.xml, summary.md, checks.csv, badge.svg and
    agreement.txt.
    Exit status: 0 all conform, 1 some do not, 2 a file was wrong, or files do not belong together
    (other goldens, the same run twice, shards of different runs), 3 a run was cut short or a shard
    is missing.
    """
    from conformance.report import merging

    merged = merging.merge(files)
    merging.write(merged, Path(folder))
    page = _shown(merged, Path(folder))
    click.echo(_where(page))
    if opens and page is not None:
        click.launch(str(page.absolute()))
    if merged.footer is None:
        sys.exit(3)
    sys.exit(0 if merged.conforms else 1)


@commands.command()
@click.argument("before", metavar="A.jsonl", type=Path)
@click.argument("after", metavar="B.jsonl", type=Path)
@click.option("--all", "everything", is_flag=True, help="Every check, however many differ.")
def diff(before: Path, after: Path, *, everything: bool) -> None:
    """What changed from run A to run B: verdicts, and answers bit by bit.

    \b
    conformance diff before/results.jsonl after/results.jsonl
    conformance diff cpu/results.jsonl cuda/results.jsonl

    Exit status: 0 nothing got worse, 1 a check does not conform in B that conformed in A or was
    not asked there, 2 a file was wrong, or the two were made against different goldens, 3 nothing
    got worse, but a run was cut short. Answers that differ within bound, and checks that are asked
    in one of the two alone, are told and are no reason to fail.
    """
    from conformance.report import changes
    from conformance.report.visible import visible

    found = changes.changes(before, after)
    for line in changes.lines(found, everything=everything):
        click.echo(visible(line))
    if found.is_worse:
        sys.exit(1)
    sys.exit(0 if found.is_whole else 3)


@commands.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@_devices
@_adapters
@_report
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
    metavar="S", help="For how long to draw.",
)  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Draw the same cases again.")
@_timeout(20.0)
def fuzz(
    patterns: tuple[str, ...],
    devices: tuple[str, ...],
    adapters: tuple[str, ...],
    folder: str,
    seconds: float,
    seed: int | None,
    timeout: float,
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

    from conformance.plan import known_differences, make_players

    _need_hypothesis()
    from conformance import fuzz as fuzzing
    from conformance.report import fuzzed
    from conformance.report.progress import now_and_then

    settings = fuzzing.Settings(seconds, secrets.randbits(32) if seed is None else seed, timeout)
    say = now_and_then(_say)
    done = fuzzing.run(
        make_players(patterns, devices, adapters),
        settings,
        Path(folder),
        known=known_differences(),
        adapters=adapters,
        on_check=lambda check, asked: say(f"{asked} asked, at {check.id}"),
    )
    fuzzed.show(done, Console())
    if done.ledger.failures:
        sys.exit(1)
    if not done.is_whole:
        sys.exit(3)


@commands.command()
@click.argument("patterns", metavar="[PATTERN]…", nargs=-1)
@_adapters
@_report
@_jobs
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N",
    help="Only N mutants of each implementation, spread over its source.",
)  # fmt: skip
def mutants(
    patterns: tuple[str, ...],
    adapters: tuple[str, ...],
    folder: str,
    jobs: int,
    sample: int | None,
) -> None:
    """Change right implementations mechanically, one change at a time, and see what the suite sees.

    PATTERN means implementations, as operation/implementation. A mutant that no case of the suite
    sees is asked 1,000 drawn cases: right in all, it is equivalent; else it survived, and a case is
    missing. What is measured is in DIR/mutants.jsonl at once, and is not measured again.

    \b
    conformance mutants channel_shuffle/torch_reshape
    conformance mutants 'gradient_mean/torch_*' --sample 10

    Exit status: 0 the suite sees every one that differs, 1 some survived, 3 it was cut short.
    """
    from conformance.plan import known_differences, make_players

    _need_hypothesis()
    from conformance.mutants.campaign import Campaign
    from conformance.report import mutated
    from conformance.report.progress import now_and_then

    say = now_and_then(_say)
    campaign = Campaign(
        Path(folder),
        known=known_differences(),
        on_measured=lambda one: say(f"{one.outcome.fate} {one.id}"),
    )
    chosen = [implementation for implementation, _ in make_players(patterns, adapters=adapters)]
    measured, is_whole = campaign.run(chosen, jobs, sample)
    mutated.show(measured, Console(), is_whole=is_whole)
    if any(one.outcome.fate == "survived" for one in measured):
        sys.exit(1)
    if not is_whole:
        sys.exit(3)


def _need_hypothesis() -> None:
    from importlib.util import find_spec

    if find_spec("hypothesis") is None:
        raise UsageError("Hypothesis draws the cases: pip install 'conformance[fuzz]'")


@commands.command()
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

    Figures go to stdout, progress to stderr. Ctrl-C prints what was measured so far, and exits
    with 3.
    """
    from conformance import bench as benchmarks

    settings = benchmarks.Settings(tuple(dict.fromkeys(map(int, world_sizes))), repeat)
    for name in benchmarks.chosen(patterns):
        if not benchmarks.run(name, settings, Console(), _say):
            sys.exit(3)


@commands.command()
@click.argument("first", metavar="FIRST")
@click.argument("second", metavar="SECOND")
@click.option(
    "--input", "inputs", multiple=True, required=True, metavar="SHAPE|FILE.npy",
    help="One for each argument, channels at axis 1: 4,6,12,12 draws small dyadic numbers.",
)  # fmt: skip
@click.option("--map", "map_file", type=Path, metavar="FILE.toml", help="Which weight goes where.")
@click.option(
    "--write-map", metavar="FILE.toml|-", help="Write the map, to edit it, and compare nothing."
)
@click.option("--eval", "evaluates", is_flag=True, help="Batch norms evaluate; else they train.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N")
@click.option(
    "--layout", metavar="A,B",
    help="channels_first or channels_last of each; torch has the one and JAX the other.",
)  # fmt: skip
@click.option(
    "--allow", "allowed", multiple=True, metavar="CAUSE",
    help="Tell of it, and do not count it; may be given several times.",
)  # fmt: skip
def compare(
    first: str,
    second: str,
    inputs: tuple[str, ...],
    map_file: Path | None,
    write_map: str | None,
    seed: int,
    layout: str | None,
    allowed: tuple[str, ...],
    *,
    evaluates: bool,
) -> None:
    """Where a port parts from its original: the first layer, and what was done there.

    FIRST and SECOND are torch:MODULE:FACTORY or jax:MODULE:FACTORY; MODULE may be a FILE.py, and
    FACTORY takes no arguments and returns a torch, Flax Linen or Flax NNX module. Both get the same
    weights and input, small integers over powers of two; each layer of SECOND is held to what
    FIRST's makes of SECOND's own input, forward, backward and in the statistics it keeps, inside an
    error that is derived. A cause is named where it gives just what SECOND gave.

    \b
    conformance compare torch:mine.models:block jax:mine.port:block --input 4,6,12,12
    conformance compare torch:old.py:net jax:new.py:net --input 2,16 --write-map map.toml
    conformance compare torch:old.py:net jax:new.py:net --input 2,16 --map map.toml
    conformance compare torch:old.py:net jax:new.py:net --input 8,3,32,32 \\
        --allow biased-running-variance

    Exit status: 0 they agree, 1 they part, 2 the call or its input was wrong (a module that does
    not import, weights without a place, outputs of unequal shapes).
    """
    from conformance.porting import comparing, telling
    from conformance.porting.sides import side

    sides = side(first), side(second)
    settings = comparing.Settings(
        inputs=tuple(map(comparing.read_input, inputs)),
        training=not evaluates,
        seed=seed,
        layouts=comparing.read_layouts(layout),
        allowed=frozenset(allowed),
    )
    if write_map is not None:
        text = comparing.map_as_toml(sides, settings, map_file)
        click.echo(text, nl=False) if write_map == "-" else comparing.write(text, Path(write_map))
        return
    found = comparing.compare(sides, settings, map_file)
    for line in telling.lines(sides, settings, found):
        click.echo(line)
    if found.partings:
        sys.exit(1)


def _shown(run: "Run", folder: Path) -> Path | None:
    """Put what is made of a run beside its results, and print it; where the page is, if it is."""
    from conformance.report import forms, terminal
    from conformance.results import FILE

    page = forms.write(run, folder)
    terminal.show(run, Console())
    click.echo(f"{folder / FILE}")
    return page


def _where(page: Path | None) -> str:
    return f"{page}" if page else "no page: Jinja2 makes it: pip install 'conformance[report]'"


def _say(line: str) -> None:
    click.echo(line, err=True)


def main() -> None:
    """The console script: wrong input is one line and exit status 2."""
    try:
        commands(standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.Abort:
        sys.exit(3)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UsageError as error:
        click.echo(f"conformance: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # `conformance list … | head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(3)
