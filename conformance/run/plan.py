"""What a run will ask: everything that can be wrong with a call is found here, before any check."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from conformance.core.checks import Check, Pattern, all_checks, select
from conformance.core.implementations import Implementation, gather, own_folder
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.core.versions import Span
from conformance.gradient_mean.inputs import Undrawable
from conformance.run.case_files import read as read_case
from conformance.run.costs import shard_of
from conformance.run.devices import ALL, DEVICES, kind_of, named
from conformance.run.goldens import Goldens, load
from conformance.run.known import Known
from conformance.run.known import read as read_known
from conformance.subjects import all_cases, solve


@dataclass(frozen=True)
class Plan:
    """The checks of a run in the order in which they are asked, and what they are judged by.

    Of a shard, I/N, `checks` are its own, and `whole` those of all N together. Of `devices` those
    that are `required` must be here; checks on others are unsupported where they are not.
    """

    checks: tuple[Check, ...]
    goldens: Goldens
    known: tuple[Known, ...] = ()
    adapters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    required: tuple[str, ...] = ()
    shard: str | None = None
    whole: tuple[Check, ...] = ()

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The frameworks that the checks need, by name; every shard names those of all."""
        return tuple(sorted({check.implementation.framework for check in self._whole}))

    @property
    def digest(self) -> str:
        """What shards of one run have in common: SHA-256 of the ids of all their checks."""
        return sha256("\n".join(sorted(check.id for check in self._whole)).encode()).hexdigest()

    @property
    def _whole(self) -> tuple[Check, ...]:
        return self.whole or self.checks


def make_plan(
    patterns: Sequence[str] = (),
    devices: Sequence[str] = ("cpu",),
    adapters: Sequence[str] = (),
    shard: str | None = None,
    outside: Sequence[str] = (),
) -> Plan:
    """Choose the checks and verify the goldens.

    Args:
        patterns: which checks; all where there is none.
        devices: on which devices; `all` is one of each kind that there is.
        adapters: code from outside.
        shard: I/N, which part of them.
        outside: cases from outside, files or JSON; where there are any, only they are asked.

    Raises:
        UsageError: for an unknown pattern, device or shard, a bad adapter, case or golden.
    """
    wanted = _known_devices(devices, patterns)
    cases = all_cases()
    asked = [outside_case(text) for text in outside] or cases
    checks = select(all_checks(gather(adapters), asked, wanted), patterns)
    chosen = checks if shard is None else shard_of(checks, shard)
    return Plan(
        tuple(chosen),
        load(cases),
        known_differences(),
        tuple(adapters),
        wanted,
        _known_devices([device for device in devices if device != ALL], patterns),
        shard,
        tuple(checks),
    )


def make_players(
    patterns: Sequence[str] = (), devices: Sequence[str] = ("cpu",), adapters: Sequence[str] = ()
) -> list[tuple[Implementation, str]]:
    """Choose whom to ask drawn cases, and on which device.

    Raises:
        UsageError: for a pattern that means nobody or names a case, an unknown device, a bad
            adapter.
    """
    told = next((text for text in patterns if Pattern.parse(text).case != "*"), None)
    if told is not None:
        raise UsageError(f"{told!r} names cases, and fuzz draws its own: leave out what follows :")
    checks = all_checks(gather(adapters), all_cases(), _known_devices(devices, patterns))
    players = [
        (check.implementation, check.device)
        for check in select(checks, patterns)
        if check.implementation.runs != "virtual"  # what is drawn has few ranks
    ]
    return list(dict.fromkeys(players))


def known_differences() -> tuple[Known, ...]:
    """What is on record to differ, in the versions that are installed."""
    return tuple(
        entry
        for entry in read_known(own_folder() / "known.toml")
        if not Span(entry.since, entry.until).outside
    )


def outside_case(text: str) -> AnyCase:
    """A case from a file, or from JSON where it begins with a brace.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    try:
        is_inline = text.lstrip().startswith("{")
        case = read_case(text) if is_inline else read_case(Path(text).read_text("utf-8"), text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--case {text}: cannot be read ({error})") from error
    try:
        solve(case)
    except Undrawable as error:
        raise UsageError(f"{case.id}: no inputs can be certified exact: {error}") from error
    return case


def _known_devices(devices: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*named(devices), *_devices_of(patterns)]))


def _devices_of(patterns: Sequence[str]) -> list[str]:
    """Devices that a pattern names outright: `…@cuda:…` needs no --device beside it."""
    told = [Pattern.parse(pattern).device for pattern in patterns]
    return [device for device in told if kind_of(device) in DEVICES]
