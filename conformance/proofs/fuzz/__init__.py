"""Fuzzing: cases are drawn, answered by the oracle on the fly, and asked of implementations."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import conformance
from conformance.core.checks import Check
from conformance.core.implementations import Implementation
from conformance.core.report_folder import ReportFolder
from conformance.core.verdict import NOT_CONFORMING, Verdict
from conformance.frameworks import is_installed
from conformance.proofs.fuzz.ledger import Ledger
from conformance.proofs.fuzz.rounds import (
    STRIKES,
    Examine,
    LeftOut,
    OutOfTime,
    Player,
    certified,
    heard,
    play,
)
from conformance.run import caches
from conformance.run.examiner import Examiner
from conformance.run.goldens import OnTheFly
from conformance.run.known import Known, entry_for
from conformance.run.results import now

__all__ = ["Fuzz", "Settings", "run"]

# Cases per turn: few enough that every implementation gets a turn within a minute.
_EXAMPLES = {"channel_shuffle": 200, "gradient_mean": 40}
_FEW = 8


@dataclass(frozen=True)
class Settings:
    """The settings of a fuzzing run.

    Attributes:
        seconds: when to stop drawing; a failure that is being shrunk then takes its time.
        seed: equal seeds draw equal cases in equal order.
        timeout: seconds for one check.
    """

    seconds: float = 60.0
    seed: int = 0
    timeout: float = 20.0


@dataclass
class Fuzz:
    """The state of a fuzzing run.

    Attributes:
        ledger: the checks that were asked, and their failures.
        is_whole: whether the run ended by itself.
        left_out: implementations that are not asked, or not any more, and why.
    """

    ledger: Ledger
    is_whole: bool = False
    left_out: list[str] = field(default_factory=list)


def run(
    whom: Sequence[tuple[Implementation, str]],
    settings: Settings,
    folder: ReportFolder,
    *,
    known: Sequence[Known] = (),
    adapters: Sequence[str] = (),
    on_check: Callable[[Check, int], None] = lambda _check, _asked: None,
) -> Fuzz:
    """Asks drawn cases, implementation by implementation in turn, until the seconds are over.

    Ctrl-C, SIGTERM or SIGHUP ends the run after the current check; earlier findings are kept.

    Args:
        whom: implementations, each with the device where it is asked.
        settings: seconds, seed and timeout.
        folder: the report folder.
        known: differences that do not count.
        adapters: files and modules of implementations from outside, for the lines that rerun.
        on_check: called after each check, with the number of checks so far.

    Raises:
        UsageError: if no implementation's device is here.
    """
    examiner = Examiner(OnTheFly(), (), settings.timeout, caches.folder())
    whom = _with_device(whom, examiner)
    header = {
        "suite": conformance.__version__,
        "started": now(),
        "seed": settings.seed,
        "seconds": settings.seconds,
        "adapters": list(adapters),
    }

    def examine(check: Check) -> Verdict:
        if interrupted():
            raise KeyboardInterrupt
        verdict, _ = examiner.examine(check)
        entry = entry_for(check, known, verdict)
        if verdict.status in NOT_CONFORMING and entry is not None and entry.excuses(verdict):
            verdict = Verdict("known", verdict.reason)
        on_check(check, ledger.asked)
        return verdict

    with Ledger(folder, header) as ledger, heard() as interrupted:
        fuzz = Fuzz(ledger)
        players = _players(whom, fuzz)
        try:
            _take_turns(players, settings, examine, fuzz)
            fuzz.is_whole = True
        except KeyboardInterrupt:
            pass
        finally:
            ledger.finish(is_whole=fuzz.is_whole)
            examiner.close()
    return fuzz


def _with_device(
    whom: Sequence[tuple[Implementation, str]], examiner: Examiner
) -> Sequence[tuple[Implementation, str]]:
    """Leaves out implementations whose device is missing: their cases would all be unsupported."""
    if all(device == "cpu" for _, device in whom):
        return whom
    machine = examiner.look_around({implementation.framework for implementation, _ in whom})
    present = [
        (implementation, device)
        for implementation, device in whom
        if not machine.lacks(implementation.framework, device)
    ]
    if not present:
        examiner.close()
        machine.require(whom[0][1])
    return present


def _players(whom: Sequence[tuple[Implementation, str]], fuzz: Fuzz) -> list[Player]:
    """Returns implementations of installed frameworks, quick ones before those that compile."""
    missing = {
        implementation.framework
        for implementation, _ in whom
        if not is_installed(implementation.framework)
    }
    fuzz.left_out += [f"{framework} is not installed" for framework in sorted(missing)]
    installed = [
        (implementation, device)
        for implementation, device in whom
        if implementation.framework not in missing
    ]
    return [
        Player(implementation, device)
        for implementation, device in sorted(installed, key=lambda player: _compiles(player[0]))
    ]


def _take_turns(
    players: Sequence[Player], settings: Settings, examine: Examine, fuzz: Fuzz
) -> None:
    """Plays rounds until the seconds are over, or every implementation is left out."""
    deadline = time.monotonic() + settings.seconds
    numbers = random.Random(settings.seed)  # noqa: S311 - The choice of cases is no secret.
    with suppress(OutOfTime):
        while remaining := [player for player in players if not player.is_left_out]:
            number = numbers.getrandbits(64)
            for player in remaining:
                implementation = player.implementation
                examples = (
                    _FEW if _compiles(implementation) else _EXAMPLES[implementation.operation]
                )
                strategy = certified(implementation.operation)
                try:
                    play(player, strategy, examples, number, examine, fuzz.ledger, deadline)
                except LeftOut:
                    owner = f"{implementation.id}@{player.device}"
                    fuzz.left_out.append(f"{owner} hung or died {STRIKES} times")


def _compiles(implementation: Implementation) -> bool:
    """Says whether the implementation compiles every new shape, which takes 100 times as long."""
    return implementation.framework == "jax" or "compile" in implementation.name
