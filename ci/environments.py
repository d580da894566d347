"""Virtual environments of the jobs, in build/matrix, kept from run to run."""

import datetime
import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jobs import NEWEST, Job

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "matrix"


class CannotRun(Exception):  # noqa: N818 - The message says why a job is left out.
    """This machine cannot run a job; the message says what it lacks."""


class SetupFailed(CannotRun):
    """A package of a job that this machine should run could not be installed."""


def python_of(job: Job) -> str:
    """Finds an interpreter of the job's version: on PATH, or among those of pyenv and uv.

    Raises:
        CannotRun: if there is none.
    """
    home = Path.home()
    kept = [
        *sorted(home.glob(f".pyenv/versions/{job.python}.*/bin/python"), reverse=True),
        *sorted(home.glob(f".local/share/uv/python/cpython-{job.python}.*/bin/python3")),
    ]
    for name in (f"python{job.python}", "python3", "python", *map(str, kept)):
        if shutil.which(name):
            call = [name, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            completed = subprocess.run(call, capture_output=True, text=True, check=False)
            if completed.stdout.strip() == job.python:
                return name
    raise CannotRun(f"{job.id} needs Python {job.python}, which is not here")


def lacking(job: Job) -> str:
    """Returns what this machine lacks for the job, or an empty text."""
    if job.os and not job.os.startswith({"Linux": "ubuntu"}.get(platform.system(), "?")):
        return f"{job.os}, and this is {platform.system()}"
    if job.gpus:
        gpus = 0
        if program := shutil.which("nvidia-smi"):
            listing = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
            gpus = sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
        if gpus < job.gpus:
            return f"{job.gpus} GPU, and nvidia-smi tells of {gpus}"
    return ""


def without_doubles(jobs: Iterable[Job]) -> list[Job]:
    """Returns the jobs that differ in more than the OS."""
    by_versions: dict[tuple[object, ...], Job] = {}
    for job in jobs:
        by_versions.setdefault(job.versions, job)
    return list(by_versions.values())


def set_up(job: Job) -> Path:
    """Returns the `bin` folder of the job's environment, made anew where it is out of date.

    Raises:
        CannotRun: if the machine lacks something.
        SetupFailed: if a package cannot be installed.
    """
    if lack := lacking(job):
        raise CannotRun(f"{job.id} needs {lack}")
    folder = FOLDER / "environments" / job.id
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # What is newest is looked up again each day.
    today = str(datetime.datetime.now(tz=datetime.UTC).date()) if job.may_fail else ""
    content = f"{job.constraints}\n{job.extras}\n{project}{today}"
    stamp = hashlib.sha256(content.encode()).hexdigest()
    marker = folder / ".set-up"
    if marker.is_file() and marker.read_text(encoding="utf-8") == stamp:
        return folder / "bin"
    python = python_of(job)
    _say(f"setting up {job.id}: {job.words}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(job.constraints, encoding="utf-8")
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(constraints)]
    # torch is installed first and by its exact version, as in ci/run.
    version = job.packages.get("torch")
    torch = [f"torch=={version}" if version != NEWEST else "torch"] if version else []
    cuda = ["jax[cuda13]"] if job.gpus and "jax" in job.packages else []
    for wants in (torch, ["--editable", f".{job.extras}", *cuda]):
        if wants and subprocess.run([*pip, *wants], cwd=ROOT, check=False).returncode:
            raise SetupFailed(f"{job.id} cannot be set up: pip install {' '.join(wants)} failed")
    marker.write_text(stamp, encoding="utf-8")
    return folder / "bin"


def run(job: Job, report: Path, arguments: Sequence[str] = (), shard: str | None = None) -> int:
    """Runs a job, or a shard of it; the status is 0 also where checks do not conform.

    Of one that may fail it is that of `conformance run`: no merge counts its checks later.

    Raises:
        CannotRun: if `set_up` raises it.
    """
    program = str(set_up(job) / "conformance")
    call = [program, "run", *arguments, "--device", job.device, "--report", str(report)]
    completed = subprocess.run([*call, *(["--shard", shard] if shard else [])], check=False)
    return 0 if completed.returncode == 1 and not job.may_fail else completed.returncode


def run_here(jobs: Sequence[Job], folder: Path, arguments: Sequence[str] = ()) -> int:
    """Runs each job that this machine can run, one after another, and merges them in DIR/report.

    What may fail is told, and is in no merge.

    Returns:
        2 where a job could not be set up, else the status of `conformance report`.
    """
    left_out, failed, files = [], [], []
    for job in without_doubles(jobs):
        results = folder / "results" / job.id
        try:
            if lack := lacking(job):
                raise CannotRun(f"{job.id} needs {lack}")
            _say(f"{job.id}: {job.words}")
            status = run(job, results, arguments)
            if job.may_fail:
                left_out.append(f"{job.id}, which does not count, ended with {status}: {results}")
            elif status in (0, 3):
                files.append(results / "results.jsonl")
            else:
                failed.append(f"{job.id} could not be run")
        except SetupFailed as error:
            (left_out if job.may_fail else failed).append(str(error))
        except CannotRun as error:
            left_out.append(str(error))
    for words in (*left_out, *failed):
        _say(words)
    if not files:
        raise CannotRun("no job could be run here")
    status = _report(files, folder / "report")
    return 2 if failed else status


def merge(jobs: Sequence[Job], results: Path, report: Path) -> int:
    """Merges the results of these jobs' shards from folders of their names, as CI brings them.

    Returns:
        The status of `conformance report`, and 3 where results are missing.
    """
    present, missing = [], []
    for name in (job.shard(number) for job in jobs for number in range(1, job.shards + 1)):
        places = [results / folder / "results.jsonl" for folder in (name, f"results-{name}")]
        existing = [file for file in places if file.is_file()]
        (present if existing else missing).append(existing[0] if existing else places[0])
    for file in missing:
        _say(f"there are no results of {file.parent.name}")
    if not present:
        raise CannotRun(f"{results} holds no results of any job")
    status = _report(present, report)
    if missing and (summary := report / "summary.md").is_file():
        with summary.open("a", encoding="utf-8") as stream:
            stream.writelines(f"\n✗ There are no results of {f.parent.name}.\n" for f in missing)
    return status or (3 if missing else 0)


def _report(files: Sequence[Path], folder: Path) -> int:
    """Runs `conformance report` in an environment of its own, which needs no framework."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    reporter = Job("report", "cpu", python, os="", shards=1, packages={})
    call = [set_up(reporter) / "conformance", "report", *files, "--to", folder]
    return subprocess.run([str(word) for word in call], check=False).returncode


def _say(line: str) -> None:
    print(f"ci/run matrix: {line}", file=sys.stderr, flush=True)
