"""A round of fuzzing: an implementation is asked some drawn cases, and a failure is shrunk."""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from conformance.core.checks import Check, asks
from conformance.core.implementations import Implementation
from conformance.core.interrupts import SIGNALS, handled
from conformance.core.questions import AnyCase
from conformance.core.verdict import NOT_CONFORMING, Verdict
from conformance.gradient_mean.inputs import Undrawable
from conformance.proofs.fuzz.ledger import Failure, Ledger
from conformance.run.goldens import solved
from conformance.subjects import drawn

# These limit the cost of shrinking, and how often an implementation may hang or die.
_SHRINKS, _SHRINK_SECONDS, STRIKES = 400, 30.0, 3
_FATES = ("crash", "timeout")

Examine = Callable[[Check], Verdict]
# Failures with the same status, and the same mistakes or reason, are a single finding.
Signature = tuple[str, tuple[str, ...] | str]


class _Failing(Exception):  # noqa: N818 - Hypothesis shrinks whatever raises this.
    """The drawn case fails."""


class OutOfTime(BaseException):
    """The seconds are over."""


class LeftOut(BaseException):
    """The implementation hung or died too often."""


@dataclass
class Player:
    """An implementation on a device, and its failures so far."""

    implementation: Implementation
    device: str
    reported: set[Signature] = field(default_factory=set)
    strikes: int = 0

    @property
    def is_left_out(self) -> bool:
        """Says whether it hung or died so often that it is not asked any more."""
        return self.strikes >= STRIKES


@dataclass
class _Search:
    """The state of a round: the simplest failure so far, and what shrinking has cost."""

    best: Failure | None = None
    signature: Signature | None = None
    shrinks: int = 0
    since: float = 0.0

    @property
    def is_tired(self) -> bool:
        return self.shrinks > _SHRINKS or time.monotonic() - self.since > _SHRINK_SECONDS


def play(
    player: Player,
    strategy: SearchStrategy[AnyCase],
    examples: int,
    number: int,
    examine: Examine,
    ledger: Ledger,
    deadline: float,
) -> None:
    """Asks a player so many cases; the ledger gets a failure as it was drawn and as it shrank.

    Args:
        player: the implementation to ask.
        strategy: draws the cases; equal seeds draw equal cases.
        examples: how many cases to draw.
        number: the seed.
        examine: asks a check, and judges.
        ledger: takes the failures.
        deadline: when the seconds are over, by the monotonic clock.

    Raises:
        OutOfTime: when the seconds are over; a failure that is being shrunk stays as it was drawn.
        LeftOut: if the implementation hung or died too often.
    """
    search = _Search()

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(strategy)
    def once(case: AnyCase) -> None:
        check = Check(player.implementation, case, player.device)
        if asks(case, player.implementation):
            _ask(check, player, search, examine, ledger, deadline)

    try:
        once()
    except _Failing:
        assert search.best is not None
        assert search.signature is not None
        player.reported.add(search.signature)
        ledger.add(Failure(search.best.check, search.best.verdict, is_minimal=True))
    except Flaky:
        assert search.best is not None
        assert search.signature is not None
        player.reported.add(search.signature)
        note = "did not fail again when it was asked again"
        ledger.add(Failure(search.best.check, search.best.verdict, note=note))


def _ask(
    check: Check,
    player: Player,
    search: _Search,
    examine: Examine,
    ledger: Ledger,
    deadline: float,
) -> None:
    is_shrinking = search.best is not None
    if not is_shrinking and time.monotonic() > deadline:
        raise OutOfTime
    if search.best is not None and search.is_tired:
        if check.case == search.best.check.case:
            # Hypothesis asks the simplest failure once more at its end.
            raise _Failing
        return
    verdict = examine(check)
    search.shrinks += is_shrinking
    if not is_shrinking:
        ledger.count(check, verdict.status)
    if verdict.status not in NOT_CONFORMING:
        return
    signature = signature_of(verdict)
    if verdict.status in _FATES:
        # Shrinking would hang or die at every step as well.
        _strike(Failure(check, verdict), signature, player, ledger)
        return
    if _is_reported(signature, player.reported) or search.signature not in (None, signature):
        return
    if search.best is None:
        ledger.add(Failure(check, verdict))
        search.since = time.monotonic()
    search.best, search.signature = Failure(check, verdict), signature
    raise _Failing


def _strike(failure: Failure, signature: Signature, player: Player, ledger: Ledger) -> None:
    player.strikes += 1
    if signature not in player.reported:
        player.reported.add(signature)
        ledger.add(failure)
    if player.is_left_out:
        raise LeftOut


def _is_reported(signature: Signature, reported: Collection[Signature]) -> bool:
    """Says whether a reported failure explains this one; fitting one mistake more adds nothing."""
    status, kind = signature
    return signature in reported or any(
        status == reported_status
        and isinstance(kind, tuple)
        and isinstance(reported_names, tuple)
        and set(reported_names) <= set(kind)
        for reported_status, reported_names in reported
    )


def signature_of(verdict: Verdict) -> Signature:
    """Returns what failures of one kind have in common."""
    return verdict.status, verdict.fits or verdict.reason.partition(":")[0]


def minimal(failures: Iterable[Failure]) -> list[Failure]:
    """Returns the failures to print: shrunk failures, and failures that could not be shrunk."""
    all_failures = list(failures)
    shrunk = {
        (failure.check.implementation.id, failure.check.device, signature_of(failure.verdict))
        for failure in all_failures
        if failure.is_minimal or failure.note
    }
    return [
        failure
        for failure in all_failures
        if failure.is_minimal
        or failure.note
        or (failure.check.implementation.id, failure.check.device, signature_of(failure.verdict))
        not in shrunk
    ]


@contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """Notes the first Ctrl-C, SIGTERM or SIGHUP between two checks; a second Ctrl-C raises.

    An exception raised at any moment may be lost in a callback of the garbage collector, or leave
    Hypothesis in the middle of its own bookkeeping.

    Yields:
        A function that says whether there was one.
    """
    interrupted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        interrupted.set()

    with handled(note, (signal.SIGINT, *SIGNALS)):
        yield interrupted.is_set


def certified(operation: str) -> SearchStrategy[AnyCase]:
    """Returns a strategy for cases of an operation, without cases that cannot be certified."""
    return drawn(operation).filter(_has_answer)


def _has_answer(case: AnyCase) -> bool:
    try:
        solved(case)
    except Undrawable:
        return False
    return True
