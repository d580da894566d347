"""The CI matrix: what is generated from ci/matrix.toml, and the jobs where they run.

bash ci/run matrix                          write the workflow, the GitLab file and the containers
bash ci/run matrix --check                  exit 1 where one of them would differ
bash ci/run matrix --list                   the jobs
bash ci/run matrix --job NAME --to DIR      set one job up in build/matrix, and run it
bash ci/run matrix --local [--quick]        run every job that this machine can, and merge them
bash ci/run matrix --merge DIR --to REPORT  merge what the jobs left in DIR, as the last CI job does

--local and --job exit with 2 where a job could not be set up; --local and --merge as `conformance
report` does. An environment of an older torch takes up to 7 GB, since its CPU builds are on an
index of their own: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves most of that.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import environments
import jobs
from jobs import Job, Matrix

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "ci" / "templates"


def files(matrix: Matrix) -> Mapping[str, str]:
    """Makes every generated file, by its path from the root."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # GitHub has its own meaning for {{ and }}.
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        autoescape=False,  # noqa: S701 - The output is YAML and shell, from the project's own data.
    )
    own = matrix.own
    local = {job.id for job in environments.without_doubles(matrix.hosted)}

    def rendered(name: str, **values: object) -> str:
        return templates.get_template(name).render(matrix=matrix, **values)

    built = {"cpu": _pinned(matrix), **{job.device: job for job in reversed(own)}}
    return {
        ".github/workflows/conformance.yml": rendered("conformance.yml.j2"),
        ".github/actionlint.yaml": rendered(
            "actionlint.yaml.j2",
            labels=sorted({label for job in own for label in job.labels}),
            variables=[job.variable for job in own],
        ),
        ".gitlab-ci.yml": rendered("gitlab-ci.yml.j2", local=local),
        **{
            f"ci/containers/{device}.Dockerfile": rendered("Dockerfile.j2", job=job)
            for device, job in built.items()
        },
    }


def _pinned(matrix: Matrix) -> Job:
    return next(job for job in matrix.hosted if job.id.startswith("pinned"))


def write(matrix: Matrix) -> None:
    """Writes the generated files to their places."""
    for name, text in files(matrix).items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")


def differences(matrix: Matrix) -> list[str]:
    """Returns the generated files that differ from what would be written."""
    return [
        name
        for name, text in files(matrix).items()
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != text.encode()
    ]


def main() -> int:
    """Reads the call."""
    parser = argparse.ArgumentParser(
        prog="bash ci/run matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--list", action="store_true")
    mode.add_argument("--local", action="store_true")
    mode.add_argument("--merge", type=Path, metavar="DIR")
    parser.add_argument("--job", action="append", default=[], metavar="NAME", dest="names")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    parser.add_argument("--shard", metavar="I/N")
    parser.add_argument("--quick", action="store_true", help="of each job a quick run")
    parser.add_argument("--setup", action="store_true", help="set the job up, and run nothing")
    parser.add_argument("--to", type=Path, metavar="DIR")
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="of checks; all if none")
    call = parser.parse_args()
    matrix = jobs.read()
    unknown = {*call.names, *call.without} - {job.id for job in matrix.jobs}
    if unknown:
        names = ", ".join(job.id for job in matrix.jobs)
        parser.error(f"no job is called {', '.join(sorted(unknown))}; jobs: {names}")
    chosen = [
        job
        for job in matrix.jobs
        if (not call.names or job.id in call.names) and job.id not in call.without
    ]
    arguments = [*call.patterns, *["--quick"] * call.quick]
    try:
        if call.list:
            print("\n".join(f"{job.id}: {job.words}" for job in matrix.jobs))
            return 0
        if call.local:
            return environments.run_here(chosen, call.to or ROOT / "build/matrix", arguments)
        if call.merge:
            counting = [job for job in chosen if not job.may_fail]
            return environments.merge(counting, call.merge, call.to or call.merge / "report")
        if call.names:
            [job] = chosen
            if call.setup:
                environments.set_up(job)
                return 0
            return environments.run(job, call.to or Path("results"), arguments, call.shard)
    except environments.CannotRun as error:
        print(f"ci/run matrix: {error}", file=sys.stderr)
        return 2
    if call.check:
        outdated = differences(matrix)
        print("\n".join(f"{name} is out of date: bash ci/run matrix" for name in outdated))
        return 1 if outdated else 0
    write(matrix)
    return 0


if __name__ == "__main__":
    sys.exit(main())
