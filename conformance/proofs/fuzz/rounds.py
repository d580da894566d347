"""One round: some drawn cases put to one implementation, and the first failure shrunk."""

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
from conformance.core.questions import AnyCase
from conformance.core.verdict import NOT_CONFORMING, Verdict
from conformance.gradient_mean.inputs import Undrawable
from conformance.proofs.fuzz.ledger import Failure, Ledger
from conformance.run.goldens import made
from conformance.subjects import drawn

# What shrinking may cost, and how often an implementation may hang or die before it is left out.
_SHRINKS, _SHRINK_SECONDS, STRIKES = 400, 30.0, 3
_FATES = ("crash", "timeout")

Examine = Callable[[Check], Verdict]
# Failures of one kind are one finding: a status, and what the answer looks like.
Signature = tuple[str, tuple[str, ...] | str]


class _Failing(Exception):  # noqa: N818 - what Hypothesis is to shrink
    """The drawn case fails."""


class OutOfTime(BaseException):
    """The seconds are over."""


class LeftOut(BaseException):
    """The implementation hung or died too often."""


@dataclass
class Player:
    """An implementation on a device, and what is known of its failures."""

    implementation: Implementation
    device: str
    reported: set[Signature] = field(default_factory=set)
    strikes: int = 0

    @property
    def is_left_out(self) -> bool:
        """Whether it hung or died so often that it is not asked any more."""
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
    """Put so many cases to a player; what fails is in the ledger, as it came and as it shrank.

    Args:
        player: whom to ask.
        strategy: draws the cases; equal numbers draw equal ones.
        examples: how many.
        number: the seed.
        examine: asks a check, and judges.
        ledger: takes the failures.
        deadline: when the seconds are over, by the monotonic clock.

    Raises:
        OutOfTime: when they are; a failure that is being shrunk is in the ledger as it came.
        LeftOut: if it hung or died too often.
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
        if check.case == search.best.check.case:  # what it ends with is asked once more
            raise _Failing
        return
    verdict = examine(check)
    search.shrinks += is_shrinking
    if not is_shrinking:
        ledger.count(check, verdict.status)
    if verdict.status not in NOT_CONFORMING:
        return
    signature = signature_of(verdict)
    if verdict.status in _FATES:  # every further try would hang or die as well
        _strike(Failure(check, verdict), signature, player, ledger)
        return
    if _is_told(signature, player.reported) or search.signature not in (None, signature):
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


def _is_told(signature: Signature, reported: Collection[Signature]) -> bool:
    """Whether it is a failure already reported, or could be: a case that names two says no more."""
    status, what = signature
    return signature in reported or any(
        status == told
        and isinstance(what, tuple)
        and isinstance(names, tuple)
        and set(names) <= set(what)
        for told, names in reported
    )


def signature_of(verdict: Verdict) -> Signature:
    """What failures of one kind have in common."""
    return verdict.status, verdict.fits or verdict.reason.partition(":")[0]


def minimal(failures: Iterable[Failure]) -> list[Failure]:
    """The failures to tell: the shrunk ones, and those that could not be shrunk."""
    everything = list(failures)
    shrunk = {
        (failure.check.implementation.id, failure.check.device, signature_of(failure.verdict))
        for failure in everything
        if failure.is_minimal or failure.note
    }
    return [
        failure
        for failure in everything
        if failure.is_minimal
        or failure.note
        or (failure.check.implementation.id, failure.check.device, signature_of(failure.verdict))
        not in shrunk
    ]


@contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """Notes the first Ctrl-C between two checks; the second one raises as usual.

    Raised wherever it happens to come, it is lost in a callback of the garbage collector, or leaves
    Hypothesis in the middle of its own bookkeeping.

    Yields:
        A function that says whether there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Signals come to the main thread alone.
        return
    came = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            signal.default_int_handler(number, frame)
        came.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def certified(operation: str) -> SearchStrategy[AnyCase]:
    """Returns what draws cases of an operation, without those that nobody can certify."""
    return drawn(operation).filter(_has_answer)


def _has_answer(case: AnyCase) -> bool:
    try:
        made(case)
    except Undrawable:
        return False
    return True
