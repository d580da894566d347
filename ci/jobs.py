"""The jobs of ci/matrix.toml, a job for each combination."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

CI = Path(__file__).parent
MATRIX = CI / "matrix.toml"
CONSTRAINTS = CI / "constraints.txt"
EXTRAS = ("torch", "jax")
NEWEST = "newest"


@dataclass(frozen=True)
class Job:
    """An environment, and into how many shards its run is divided.

    `id` names its folders, artifacts and shards; `os` is a hosted runner's label, empty where
    `labels` name a self-hosted one, which is there if the repository's `variable` is "true".
    Versions of one that `may_fail` are those of the day, and nothing waits for its verdict.
    """

    id: str
    device: str
    python: str
    os: str
    shards: int
    packages: Mapping[str, str]
    labels: tuple[str, ...] = ()
    variable: str = ""
    gpus: int = 0
    may_fail: bool = False

    @property
    def versions(self) -> tuple[Any, ...]:
        """Returns what tells runs apart: jobs that differ in the OS alone have equal versions."""
        return (self.device, self.python, tuple(self.packages.items()), self.gpus)

    @property
    def words(self) -> str:
        """Describes what the job runs on, in one line."""
        packages = [f"{name} {version}" for name, version in self.packages.items()]
        place = self.os or " ".join(self.labels)
        return ", ".join(filter(None, [*packages, f"Python {self.python}", place]))

    @property
    def extras(self) -> str:
        """Returns the extras to install: frameworks, and `report`, since every run has its page."""
        return f"[{','.join([*(name for name in EXTRAS if name in self.packages), 'report'])}]"

    @property
    def constraints(self) -> str:
        """Returns ci/constraints.txt with the versions of this job; nothing for those of today."""
        pins = {} if self.may_fail else dict(line.split("==") for line in _pins())
        pins.update(self.packages)
        if "jax" in self.packages:
            pins["jaxlib"] = self.packages["jax"]
        pins = {name: version for name, version in pins.items() if version != NEWEST}
        return "".join(f"{name}=={version}\n" for name, version in pins.items())

    def shard(self, number: int) -> str:
        """Returns the name of a shard, from 1: the name of its folder, artifact and CI job."""
        return f"{self.id}-{number}" if self.shards > 1 else self.id


@dataclass(frozen=True)
class Matrix:
    """The content of ci/matrix.toml."""

    jobs: tuple[Job, ...]
    cpu_index: str
    minutes: int
    actions: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosted(self) -> tuple[Job, ...]:
        """Returns the jobs on hosted runners whose verdict counts."""
        return tuple(job for job in self.jobs if not job.labels and not job.may_fail)

    @property
    def own(self) -> tuple[Job, ...]:
        """Returns the jobs on self-hosted runners."""
        return tuple(job for job in self.jobs if job.labels)

    @property
    def trials(self) -> tuple[Job, ...]:
        """Returns the jobs that may fail."""
        return tuple(job for job in self.jobs if job.may_fail)


def read(path: Path = MATRIX) -> Matrix:
    """Reads the matrix of a file.

    Raises:
        ValueError: if a job lacks a field, has an unknown field or another job's name.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    jobs = tuple(job for entry in content.pop("job") for job in _jobs(entry))
    if len({job.id for job in jobs}) < len(jobs):
        raise ValueError(f"{path.name}: two jobs have one name")
    return Matrix(jobs, **content)


def _jobs(entry: dict[str, Any]) -> Iterator[Job]:
    """Yields a job for each Python and OS; a field with several values is part of the name."""
    name = entry.pop("name")
    try:
        packages = {
            framework: entry.pop(framework) for framework in EXTRAS if framework in entry
        } | entry.pop("with", {})
        pythons, systems = entry.pop("python"), entry.pop("os", [""])
        labels = tuple(entry.pop("labels", ()))
        for python, system in product(pythons, systems):
            several = [python] * (len(pythons) > 1) + [system] * (len(systems) > 1)
            yield Job(
                "-".join([name, *several]),
                python=python,
                os=system,
                packages=packages,
                labels=labels,
                **entry,
            )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{MATRIX.name}: job {name}: {error}") from error


def _pins() -> Iterator[str]:
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line
