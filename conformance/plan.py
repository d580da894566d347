"""What a run will ask: everything that can be wrong with a call is found here, before any check."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from conformance.cases import all_cases
from conformance.checks import Check, all_checks, select
from conformance.errors import UsageError
from conformance.judge import Known
from conformance.judge.known import read as read_known
from conformance.registry import gather, own_folder
from conformance.store import Goldens, load

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
) -> Plan:
    """Choose the checks and verify the goldens.

    Raises:
        UsageError: for an unknown pattern, device or shard, a bad adapter, or a damaged golden.
    """
    for device in devices:
        kind, _, index = device.partition(":")
        if kind not in DEVICES or (index and not index.isdigit()):
            raise UsageError(f"unknown device {device!r}; known: {', '.join(DEVICES)}, cuda:N")
    wanted = dict.fromkeys([*devices, *_devices_of(patterns)])
    cases = all_cases()
    checks = select(all_checks(gather(adapters), cases, tuple(wanted)), patterns)
    chosen = _shard(checks, shard)
    known = read_known(own_folder() / "known.toml")
    return Plan(tuple(chosen), load(cases), known, tuple(adapters), tuple(wanted))


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
