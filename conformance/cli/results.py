"""Commands that read results: report and diff."""

import json
import sys
from pathlib import Path

import click

from conformance.cli.options import everything_option, json_option, say, shown
from conformance.core.report_folder import ReportFolder


@click.command()
@click.argument("files", metavar="RESULTS.jsonl…", nargs=-1, required=True, type=Path)
@click.option("--to", "folder", metavar="DIR", required=True, help="Where the report goes.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@everything_option
def report(files: tuple[Path, ...], folder: str, *, opens: bool, everything: bool) -> None:
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

    with ReportFolder(Path(folder), say) as report_folder:
        merged = merging.merge(files)
        merging.write(merged, report_folder)
        page = shown(merged, report_folder, everything=everything)
    if opens and page is not None:
        click.launch(str(page.absolute()))
    if merged.footer is None:
        sys.exit(3)
    failed = any(not record.conforms for record in merged.records)
    sys.exit(0 if merged.conforms else 1 if failed else 3)


@click.command()
@click.argument("before", metavar="A.jsonl", type=Path)
@click.argument("after", metavar="B.jsonl", type=Path)
@click.option("--all", "everything", is_flag=True, help="Every check, however many differ.")
@json_option
def diff(before: Path, after: Path, *, everything: bool, as_json: bool) -> None:
    """What changed from run A to run B: verdicts, and answers bit by bit.

    \b
    conformance diff before/results.jsonl after/results.jsonl
    conformance diff cpu/results.jsonl cuda/results.jsonl

    Exit status: 0 nothing got worse, 1 a check does not conform in B that conformed in A or was
    not asked there, 2 a file was wrong, or the two were made against different goldens, 3 nothing
    got worse, but a run was cut short, or no check has an answer in both. Answers that differ
    within bound, and checks that are in one of the two alone, are told and are no reason to fail.
    """
    from conformance.report import changes
    from conformance.report.as_json import of_changes

    changed = changes.changes(before, after)
    if as_json:
        click.echo(json.dumps(of_changes(changed)))
    else:
        for line in changes.lines(changed, everything=everything):
            click.echo(line)
    if changed.is_worse:
        sys.exit(1)
    sys.exit(0 if changed.is_whole and changed.compared else 3)
