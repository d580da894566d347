"""Runs a plan with a few threads, each with worlds of its own, and a single writer."""

import platform
import queue
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import conformance
from conformance.core.adapter_packages import packages_of
from conformance.core.checks import Check
from conformance.core.interrupts import uninterrupted
from conformance.core.report_folder import ReportFolder
from conformance.run import caches, results
from conformance.run.costs import groups_of
from conformance.run.devices import NOWHERE, Machine, kind_of
from conformance.run.examiner import TIMEOUT, Examiner
from conformance.run.plan import Plan
from conformance.run.results import Record, Run, Writer, record_of
from conformance.run.worlds import takes_ranks, world_of

Listener = Callable[[Record], None]
_Groups: TypeAlias = "queue.SimpleQueue[Sequence[Check]]"
_Finished: TypeAlias = "queue.SimpleQueue[Record | BaseException | None]"


def run(
    plan: Plan,
    folder: ReportFolder,
    *,
    jobs: int = 2,
    timeout: float = TIMEOUT,
    fail_fast: bool = False,
    on_start: Callable[[Mapping[str, Any]], None] = lambda _: None,
    on_record: Listener = lambda _: None,
) -> Run:
    """Asks every check of the plan and writes DIR/results.jsonl as the verdicts come.

    A run that a signal or `fail_fast` ended has no footer; its finished checks are on disk.

    Args:
        plan: the checks.
        folder: the report folder; beside it, compiled code is kept in the user's own cache.
        jobs: how many checks are asked at the same time.
        timeout: seconds for one check.
        fail_fast: whether to stop at the first check that does not conform.
        on_start: called with the header.
        on_record: called with each check as it ends, in this thread.

    Raises:
        UsageError: if an old report cannot be removed, or a device is not here.
    """
    started = results.now()
    examiners = [_examiner(plan, timeout)]
    # Who looks into the folder from now on sees this run, though its machine is not known yet.
    with Writer(folder, header_of(plan, NOWHERE, started)) as writer:
        try:
            machine = examiners[0].look_around(plan.frameworks)
            for device in plan.required:
                if kind_of(device) != "cpu":
                    machine.require(device)
            writer.start(header_of(plan, machine, started))
            on_start(writer.header)
            groups = groups_of(plan.checks)
            others = range(min(jobs, len(groups)) - 1)
            examiners += [_examiner(plan, timeout, machine) for _ in others]
            is_whole = _ask_all(groups, examiners, writer, on_record, fail_fast=fail_fast)
        except KeyboardInterrupt:
            is_whole = False
        finally:
            with uninterrupted():
                for examiner in examiners:
                    examiner.close()
        return writer.finish() if is_whole else writer.cut_short()


def _examiner(plan: Plan, timeout: float, machine: Machine = NOWHERE) -> Examiner:
    return Examiner(plan.goldens, plan.known, timeout, caches.folder(), machine)


def header_of(plan: Plan, machine: Machine, started: str) -> dict[str, Any]:
    """Makes the first line of a results file."""
    descriptions = machine.described
    return {
        "suite": conformance.__version__,
        "started": started,
        "checks": len(plan.checks),
        "goldens": plan.goldens.sha256,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "system": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]),
            "devices": {
                name: dict(description.devices) for name, description in descriptions.items()
            },
            "packages": packages_of(plan.adapters)
            | {
                k: v
                for description in descriptions.values()
                for k, v in description.packages.items()
            },
            "precision": {
                k: v
                for description in descriptions.values()
                for k, v in description.precision.items()
            },
            "adapters": list(plan.adapters),
        },
        "format": results.FORMAT,
        "plan": plan.digest,
        "shard": plan.shard,
        **({"cases": dict(plan.cases)} if plan.cases else {}),
        **({"quick": dict(zip(("asked", "of"), plan.quick, strict=True))} if plan.quick else {}),
        **({"last_failed": dict(plan.last_failed)} if plan.last_failed else {}),
    }


def _ask_all(
    groups: Sequence[Sequence[Check]],
    examiners: Sequence[Examiner],
    writer: Writer,
    on_record: Listener,
    *,
    fail_fast: bool,
) -> bool:
    """Asks in threads and writes in this thread; says whether every check was asked."""
    # Eight ranks fill two cores: a single slot asks ranks, and then helps with the rest.
    ranks: _Groups = queue.SimpleQueue()
    rest: _Groups = queue.SimpleQueue()
    for group in groups:
        (ranks if takes_ranks(group[0]) else rest).put(group)
    finished: _Finished = queue.SimpleQueue()
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_work, args=(examiner, queues, finished, stop), daemon=True, name=f"slot-{i}"
        )
        for i, (examiner, queues) in enumerate(
            zip(examiners, [(ranks, rest), *((rest,) for _ in examiners[1:])], strict=True)
        )
    ]
    for thread in threads:
        thread.start()
    working = len(threads)
    try:
        while working:
            match finished.get():
                case None:
                    working -= 1
                case BaseException() as error:
                    # This is a defect of the suite, not of an implementation.
                    raise error
                case record:
                    writer.add(record)
                    on_record(record)
                    if fail_fast and not record.conforms:
                        return len(writer.records) == sum(map(len, groups))
    finally:
        stop.set()
    return True


def _work(
    examiner: Examiner,
    queues: Sequence[_Groups],
    finished: _Finished,
    stop: threading.Event,
) -> None:
    try:
        for groups in queues:
            with suppress(queue.Empty):
                while True:
                    checks = groups.get_nowait()
                    examiner.keep_only(world_of(checks[0]))
                    for check in checks:
                        if stop.is_set():
                            return
                        verdict, seconds = examiner.examine(check)
                        finished.put(record_of(check, verdict, seconds))
    except BaseException as error:  # noqa: BLE001 - The main thread reports it.
        error.add_note("".join(traceback.format_exception(error)))
        finished.put(error)
    finally:
        finished.put(None)
