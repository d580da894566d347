"""The command that holds a port to its original: compare."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from conformance.cli.options import tell


@click.command()
@click.argument("first", metavar="FIRST")
@click.argument("second", metavar="SECOND")
@click.option(
    "--input", "inputs", multiple=True, required=True, metavar="[NAME=]SHAPE|FILE.npy",
    help="One for each argument, channels at axis 1: 4,6,12,12 draws dyadic numbers, or ids.",
)  # fmt: skip
@click.option("--map", "map_file", type=Path, metavar="FILE.toml", help="Which weight goes where.")
@click.option(
    "--write-map", metavar="FILE.toml|-", help="Write the map, to edit it, and compare nothing."
)
@click.option(
    "--eval", "evaluates", is_flag=True, help="Compare evaluation alone; else training too."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
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
    """Where a port parts from its original: the first module, and what was done there.

    FIRST and SECOND are torch:MODULE:FACTORY or jax:MODULE:FACTORY; MODULE may be a FILE.py, and
    FACTORY takes no arguments and returns a torch, Flax Linen, Flax NNX or Equinox module, or a JAX
    function with its weights. Both get the same weights and input, in float64, training and
    evaluating. With every value goes an error that no order of summation exceeds; outputs, every
    gradient and the statistics that are kept may differ by no more. A cause is named where FIRST,
    changed so, gives what SECOND gave.

    \b
    conformance compare torch:mine.models:block jax:mine.port:block --input 4,6,12,12
    conformance compare torch:old.py:net jax:new.py:net --input 2,16 --write-map map.toml
    conformance compare torch:old.py:net jax:new.py:net --input 2,16 --map map.toml
    conformance compare torch:old.py:net jax:new.py:net --input 8,3,32,32 \\
        --allow biased-running-variance

    Exit status: 0 they agree, 1 they part, 2 the call or its input was wrong (a module that does
    not import, weights without a place, outputs of unequal shapes for no known cause).
    """
    from conformance.compare import compare as comparing
    from conformance.compare import own_process, words
    from conformance.compare import settings as reading
    from conformance.compare.catalogue import named
    from conformance.compare.load_model import side

    sides = side(first), side(second)
    settings = reading.Settings(
        inputs=reading.read_inputs(inputs),
        modes=(False,) if evaluates else (True, False),
        seed=seed,
        layouts=reading.read_layouts(layout),
        allowed=named(allowed),
    )
    end = own_process.enter()
    # What models print is not what was asked for.
    models_print = redirect_stdout(sys.stderr)
    if write_map is not None:
        with models_print:
            text = comparing.map_as_toml(sides, settings, map_file)
        click.echo(text, nl=False) if write_map == "-" else comparing.write(text, Path(write_map))
        end(0)
    progress = comparing.to_stderr if sys.stderr.isatty() else lambda _: None
    with models_print:
        compared = comparing.compare(sides, settings, map_file, progress)
    tell(words.lines(sides, settings, compared))
    end(1 if compared.partings else 0)
