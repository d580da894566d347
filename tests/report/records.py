"""Records and results files of runs that never were."""

import json

from conformance.core.report_folder import ReportFolder
from conformance.report import merging
from conformance.run.results import FILE, Record, Writer, digest_of

ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux-6.1-x86_64",
    "system": "Linux x86_64 glibc 2.36",
    "devices": {"torch": {"cpu": "x86_64"}},
    "packages": {"torch": "2.13.0", "jax": "0.10.2"},
    "precision": {},
    "adapters": [],
}


def record(implementation, case, answer, status="exact", mistake=None, device="cpu", **others):
    return Record(
        id=f"channel_shuffle/{implementation}@{device}:{case}",
        operation="channel_shuffle",
        implementation=implementation,
        device=device,
        case=case,
        clauses=("S1",),
        status=status,
        reason=others.pop("reason", ""),
        mistake=mistake,
        error_over_bound=others.pop("error_over_bound", None),
        seconds=0.5,
        answer=answer,
        **others,
    )


def results(
    folder, records, *, finished=True, packages=None, started="2026-11-25T00:00:00", **header
):
    """The results file of a run of these records."""
    environment = {**ENVIRONMENT, "packages": packages or ENVIRONMENT["packages"]}
    header = {
        "suite": "0.1.0",
        "started": started,
        "checks": len(records),
        "goldens": "9acd",
        "environment": environment,
        "format": 1,
        # Shards have the plan of all their records together, which no shard knows.
        "plan": "plan" if header.get("shard") else digest_of(one.id for one in records),
        "shard": None,
        **header,
    }
    with ReportFolder(folder) as report_folder, Writer(report_folder, header) as writer:
        for one in records:
            writer.add(one)
        if finished:
            writer.finish()
    return folder / FILE


def saved(run, folder):
    """The results file of a merge."""
    with ReportFolder(folder) as opened:
        merging.write(run, opened)
    return folder / FILE


def header_of(file):
    return json.loads(file.read_text().split("\n")[0])
