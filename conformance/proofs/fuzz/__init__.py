"""New cases, drawn, answered by the oracle on the fly, and put to implementations in turn."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import conformance
from conformance.core.checks import Check
from conformance.core.implementations import Implementation
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
    """What may be chosen.

    Attributes:
        seconds: when to stop drawing; what is being shrunk then has as long as it takes.
        seed: equal seeds put equal cases in equal order.
        timeout: seconds for one check.
    """

    seconds: float = 60.0
    seed: int = 0
    timeout: float = 20.0


@dataclass
class Fuzz:
    """How far fuzzing has come.

    Attributes:
        ledger: what was asked and found.
        is_whole: whether it ended by itself.
        left_out: who was not asked, or not any more, and why.
    """

    ledger: Ledger
    is_whole: bool = False
    left_out: list[str] = field(default_factory=list)


def run(
    whom: Sequence[tuple[Implementation, str]],
    settings: Settings,
    folder: Path,
    *,
    known: Sequence[Known] = (),
    adapters: Sequence[str] = (),
    on_check: Callable[[Check, int], None] = lambda _check, _asked: None,
) -> Fuzz:
    """Ask drawn cases, implementation by implementation in turn, until the seconds are over.

    Ctrl-C ends it after the check that is being asked; what was found until then is kept.

    Args:
        whom: implementations, each with the device where it is asked.
        settings: what may be chosen.
        folder: the report folder; nothing is written anywhere else.
        known: differences that do not count.
        adapters: where the implementations from outside are from, for the lines that rerun.
        on_check: called after each check, and told how many were asked.

    Raises:
        UsageError: if the folder cannot be written, or nobody's device is here.
    """
    examiner = Examiner(OnTheFly(), (), settings.timeout, (folder / "cache").absolute())
    whom = _those_here(whom, examiner)
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
        if verdict.status in NOT_CONFORMING and entry_for(check.id, known) is not None:
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


def _those_here(
    whom: Sequence[tuple[Implementation, str]], examiner: Examiner
) -> Sequence[tuple[Implementation, str]]:
    """Without those whose device is not here: drawn cases would all be unsupported."""
    if all(device == "cpu" for _, device in whom):
        return whom
    machine = examiner.look_around({one.framework for one, _ in whom})
    here = [(one, device) for one, device in whom if not machine.lacks(one.framework, device)]
    if not here:
        examiner.close()
        machine.require(whom[0][1])
    return here


def _players(whom: Sequence[tuple[Implementation, str]], fuzz: Fuzz) -> list[Player]:
    """Those whose framework is here, the quick ones before those who compile."""
    missing = {one.framework for one, _ in whom if not is_installed(one.framework)}
    fuzz.left_out += [f"{framework} is not installed" for framework in sorted(missing)]
    here = [(one, device) for one, device in whom if one.framework not in missing]
    return [Player(one, device) for one, device in sorted(here, key=lambda who: _compiles(who[0]))]


def _take_turns(
    players: Sequence[Player], settings: Settings, examine: Examine, fuzz: Fuzz
) -> None:
    """Rounds until the seconds are over, or everybody is left out."""
    deadline = time.monotonic() + settings.seconds
    numbers = random.Random(settings.seed)  # noqa: S311 - which cases to draw is no secret
    with suppress(OutOfTime):
        while still := [player for player in players if not player.is_left_out]:
            number = numbers.getrandbits(64)
            for player in still:
                one = player.implementation
                examples = _FEW if _compiles(one) else _EXAMPLES[one.operation]
                strategy = certified(one.operation)
                try:
                    play(player, strategy, examples, number, examine, fuzz.ledger, deadline)
                except LeftOut:
                    owner = f"{one.id}@{player.device}"
                    fuzz.left_out.append(f"{owner} hung or died {STRIKES} times")


def _compiles(implementation: Implementation) -> bool:
    """Whether every new shape costs it as long as a hundred that are not compiled."""
    return implementation.framework == "jax" or "compile" in implementation.name
