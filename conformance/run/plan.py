"""The plan of a run, in which every error of a call is found before any check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.core.checks import Check, Pattern, selected
from conformance.core.declarations import TRAINER
from conformance.core.implementations import Implementation, own_folder
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import read_text
from conformance.core.questions import AnyCase
from conformance.core.versions import Span
from conformance.gradient_mean.inputs import Undrawable
from conformance.run.adapters import gather
from conformance.run.case_files import read as read_case
from conformance.run.costs import shard_of
from conformance.run.devices import ALL, DEVICES, kind_of, named
from conformance.run.goldens import Goldens, installed
from conformance.run.known import Known
from conformance.run.known import read as read_known
from conformance.run.quick import quick_cases
from conformance.run.results import digest_of
from conformance.subjects import all_cases, solve


@dataclass(frozen=True)
class Plan:
    """The checks of a run in the order in which they are asked, and the goldens.

    In a shard I/N, `checks` are its own checks, and `whole` are the checks of all N shards. Those
    `devices` that are `required` must be here; checks on other missing devices are unsupported.
    `cases` are those from outside: how each was given on the command line, by its name. `quick` is
    how many cases a quick run asks, of how many that a whole one would. `last_failed` is what the
    header says of the run whose failures are asked again.
    """

    checks: tuple[Check, ...]
    goldens: Goldens
    known: tuple[Known, ...] = ()
    adapters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    required: tuple[str, ...] = ()
    shard: str | None = None
    whole: tuple[Check, ...] = ()
    cases: Mapping[str, str] = field(default_factory=dict)
    quick: tuple[int, int] | None = None
    last_failed: Mapping[str, Any] | None = None

    @property
    def frameworks(self) -> tuple[str, ...]:
        """Returns the names of the frameworks that the checks need, equal in every shard."""
        return tuple(sorted({check.implementation.framework for check in self._whole}))

    @property
    def digest(self) -> str:
        """Returns the SHA-256 of the ids of all checks, which shards of a run have in common."""
        return digest_of(check.id for check in self._whole)

    @property
    def _whole(self) -> tuple[Check, ...]:
        return self.whole or self.checks


def make_plan(
    patterns: Sequence[str] = (),
    devices: Sequence[str] = ("cpu",),
    adapters: Sequence[str] = (),
    shard: str | None = None,
    outside: Sequence[str] = (),
    *,
    quick: bool = False,
    known: Path | None = None,
) -> Plan:
    """Chooses the checks and verifies the goldens.

    Args:
        patterns: patterns of checks; without any, the adapters' checks are meant where there are
            adapters, and else all checks.
        devices: names of devices; `all` stands for one of each kind that there is.
        adapters: files or modules from outside.
        shard: the part I/N of the checks to ask.
        outside: cases from outside, files or JSON; where there are any, only these are asked.
        quick: whether to ask few cases, which no known mistake passes, where no pattern names cases
            and none are from outside.
        known: a file of further differences on record.

    Raises:
        UsageError: for an unknown pattern, device or shard, a bad adapter, case or golden.
    """
    device_names = _known_devices(devices, patterns)
    cases = all_cases()
    outside_cases = [outside_case(text) for text in outside]
    quick = quick and not outside and all(Pattern.parse(text).case == "*" for text in patterns)
    whole = _selected(patterns, device_names, adapters, outside_cases or cases)
    checks = [check for check in whole if check.case.id in quick_cases()] if quick else whole
    chosen = checks if shard is None else shard_of(checks, shard)
    return Plan(
        tuple(chosen),
        installed(),
        known_differences(known),
        tuple(adapters),
        device_names,
        _known_devices([device for device in devices if device != ALL], patterns),
        shard,
        tuple(checks),
        {case.name: text for case, text in zip(outside_cases, outside, strict=True)},
        (_number_of_cases(checks), _number_of_cases(whole)) if quick else None,
    )


def make_players(
    patterns: Sequence[str] = (), devices: Sequence[str] = ("cpu",), adapters: Sequence[str] = ()
) -> list[tuple[Implementation, str]]:
    """Chooses implementations, each with a device, to be asked drawn cases.

    The arguments are as those of `make_plan`.

    Raises:
        UsageError: for a pattern that matches none or names a case, an unknown device, a bad
            adapter.
    """
    with_case = next((text for text in patterns if Pattern.parse(text).case != "*"), None)
    if with_case is not None:
        raise UsageError(
            f"{with_case!r} names cases, and an implementation is meant: leave out what follows :"
        )
    device_names = _known_devices(devices, patterns)
    players = [
        (check.implementation, check.device)
        for check in _selected(patterns, device_names, adapters, all_cases())
        # Drawn cases have few ranks.
        if check.implementation.runs != "virtual"
    ]
    return list(dict.fromkeys(players))


def _selected(
    patterns: Sequence[str],
    devices: Sequence[str],
    adapters: Sequence[str],
    cases: Sequence[AnyCase],
) -> list[Check]:
    """Returns the checks of the patterns; without any, those of the adapters, or else all."""
    implementations = gather(adapters)
    trainers = [declared for declared in implementations if declared.runs == TRAINER]
    asked = [declared for declared in implementations if declared.runs != TRAINER]
    of_adapters = [declared.id for declared in asked if declared.origin in adapters]
    for trainer in trainers:
        named = (Pattern.parse(text).implementation for text in patterns)
        if trainer.name in named or (not patterns and not of_adapters):
            raise UsageError(
                f"{trainer.name} is a trainer, which no case is for: "
                f"conformance weigh --trainers {trainer.origin} asks it"
            )
    return selected(asked, cases, devices, patterns or of_adapters)


def _number_of_cases(checks: Sequence[Check]) -> int:
    return len({check.case.id for check in checks})


def known_differences(more: Path | None = None) -> tuple[Known, ...]:
    """Returns the entries of known differences that hold for the installed versions.

    Args:
        more: a file of a project's own entries, which count first.

    Raises:
        UsageError: if this file is missing or damaged.
    """
    if more is not None and not more.is_file():
        raise UsageError(f"{more}: there is no such file of known differences")
    entries = (
        *(read_known(more) if more else ()),
        *read_known(own_folder() / "known.toml", Known.file),
    )
    return tuple(entry for entry in entries if not Span(entry.since, entry.until).outside)


def outside_case(text: str) -> AnyCase:
    """Reads a case from a file, or from JSON where the text begins with a brace.

    Raises:
        UsageError: names the file and what is wrong with it.
    """
    is_inline = text.lstrip().startswith("{")
    file = "--case" if is_inline else f"--case {text}"
    case = read_case(text if is_inline else read_text(Path(text), file), file)
    if any(case.id == own.id for own in all_cases()):
        raise UsageError(f"--case {case.id}: the suite has a case of this name; choose another")
    try:
        solve(case)
    except Undrawable as error:
        raise UsageError(f"{case.id}: no inputs can be certified exact: {error}") from error
    except MemoryError as error:
        raise UsageError(f"{case.id}: its tensors do not fit into memory ({error})") from error
    return case


def _known_devices(devices: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*named(devices), *_devices_of(patterns)]))


def _devices_of(patterns: Sequence[str]) -> list[str]:
    """Returns devices that a pattern names outright: `…@cuda:…` needs no --device beside it."""
    devices = [Pattern.parse(pattern).device for pattern in patterns]
    return [device for device in devices if kind_of(device) in DEVICES]
