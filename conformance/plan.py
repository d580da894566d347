"""What a run will ask: everything that can be wrong with a call is found here, before any check."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance.cases import AnyCase, all_cases
from conformance.cases.written import read as read_case
from conformance.checks import Check, all_checks, select
from conformance.errors import UsageError
from conformance.judge import Known
from conformance.judge.known import read as read_known
from conformance.oracle.drawing import Undrawable
from conformance.registry import Implementation, gather, own_folder
from conformance.store import Goldens, load, make

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Plan:
    """The checks of a run in the order in which they are asked, and what they are judged by."""

    checks: tuple[Check, ...]
    goldens: Goldens
    known: tuple[Known, ...] = ()
    adapters: tuple[str, ...] = ()
    devices: tuple[str, ...] = field(default=("cpu",))

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The frameworks that the checks need, by name."""
        return tuple(sorted({check.implementation.framework for check in self.checks}))


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
        devices: on which devices.
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
    chosen = _shard(checks, shard)
    return Plan(tuple(chosen), load(cases), known_differences(), tuple(adapters), wanted)


def make_players(
    patterns: Sequence[str] = (), devices: Sequence[str] = ("cpu",), adapters: Sequence[str] = ()
) -> list[tuple[Implementation, str]]:
    """Choose whom to ask drawn cases, and on which device.

    Raises:
        UsageError: for a pattern that means nobody or names a case, an unknown device, a bad
            adapter.
    """
    named = next((text for text in patterns if ":" in text), None)
    if named is not None:
        raise UsageError(f"{named!r} names cases, and fuzz draws its own: leave out what follows :")
    checks = all_checks(gather(adapters), all_cases(), _known_devices(devices, patterns))
    players = [(check.implementation, check.device) for check in select(checks, patterns)]
    return list(dict.fromkeys(players))


def known_differences() -> tuple[Known, ...]:
    """What is on record to differ."""
    return read_known(own_folder() / "known.toml")


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
        make(case)
    except Undrawable as error:
        raise UsageError(f"{case.id}: no inputs can be certified exact: {error}") from error
    return case


def _known_devices(devices: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    for device in devices:
        kind, _, index = device.partition(":")
        if kind not in DEVICES or (index and not index.isdigit()):
            raise UsageError(f"unknown device {device!r}; known: {', '.join(DEVICES)}, cuda:N")
    return tuple(dict.fromkeys([*devices, *_devices_of(patterns)]))


def _devices_of(patterns: Sequence[str]) -> list[str]:
    """Devices that a pattern names outright: `…@cuda:…` needs no --device beside it."""
    named = [pattern.partition("@")[2].partition(":")[0] for pattern in patterns if "@" in pattern]
    return [device for device in named if device in DEVICES]


def _shard(checks: Sequence[Check], shard: str | None) -> Sequence[Check]:
    if shard is None:
        return checks
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {shard}: I/N is meant, with 1 ≤ I ≤ N, as in 2/4")
    return checks[int(index) - 1 :: int(count)]


def groups_of(checks: Sequence[Check]) -> list[list[Check]]:
    """The checks of each implementation on each device together, the dearest groups first."""
    by_owner: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        by_owner.setdefault((check.implementation.id, check.device), []).append(check)
    return sorted(by_owner.values(), key=_cost, reverse=True)


def _cost(checks: Sequence[Check]) -> float:
    """About how many milliseconds: a JAX check compiles, and Inductor compiles for longer."""
    implementation = checks[0].implementation
    if "compile" in implementation.name:
        return 100.0 * len(checks)
    return {"jax": 30.0, "torch": 1.0, "numpy": 0.3}[implementation.framework] * len(checks)
