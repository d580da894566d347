"""Checks, the units that are run, named, reported and rerun: implementation × case × device."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from conformance.core.declarations import USUAL, Implementation
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase

# A case that is asked of these names is asked of whatever is declared `batch="whole"`, too.
WHOLE_BATCH = "*_whole_batch"
# Of several processes these alone gather what a loss over all samples needs.
GATHERED = "*_gathered"


@dataclass(frozen=True)
class Check:
    """One implementation with one case on one device."""

    implementation: Implementation
    case: AnyCase
    device: str

    @property
    def ranks(self) -> int:
        """Returns how many processes the check takes."""
        return int(self.case.question.processes(self.implementation.runs))

    @property
    def id(self) -> str:
        """Returns `operation/implementation@device:case`."""
        return f"{self.implementation.id}@{self.device}:{self.case.name}"


# A colon stands before the case, and also within a device's name, between its kind and a number.
_PARTS = re.compile(
    r"(?P<head>[^:@]*)(@(?P<device>[^:]*(:\d+(?=:|$))?))?(:(?P<case>.*))?", re.DOTALL
)


def parted(text: str) -> tuple[str, str, str]:
    """Splits a pattern or an id into what stands before its device, the device, and the case.

    >>> parted("channel_shuffle/torch_module@cuda:1:strides-f32")
    ('channel_shuffle/torch_module', 'cuda:1', 'strides-f32')
    """
    match = _PARTS.fullmatch(text)
    if match is None:
        return text, "", ""
    return match["head"], match["device"] or "", match["case"] or ""


@dataclass(frozen=True)
class Pattern:
    """A shell glob over check ids, part by part; a part left out matches everything.

    >>> Pattern.parse("*/jax_*:*unequal*")
    Pattern(operation='*', implementation='jax_*', device='*', case='*unequal*')
    """

    operation: str = "*"
    implementation: str = "*"
    device: str = "*"
    case: str = "*"

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Reads `operation[/implementation[@device][:case]]`; a device may end in `:N`.

        >>> Pattern.parse("*/torch_*@cuda:1:identity*").device
        'cuda:1'
        """
        head, device, case = parted(text)
        operation, _, implementation = head.partition("/")
        return cls(operation or "*", implementation or "*", device or "*", case or "*")

    def takes(self, declared: Implementation, case: AnyCase, device: str) -> bool:
        """Says whether the pattern matches the check of these three."""
        return (
            self.takes_implementation(declared)
            and self.takes_case(case)
            and fnmatchcase(device, self.device)
        )

    def takes_implementation(self, declared: Implementation) -> bool:
        """Says whether the pattern matches any check of this implementation."""
        return fnmatchcase(declared.operation, self.operation) and fnmatchcase(
            declared.name, self.implementation
        )

    def takes_case(self, case: AnyCase) -> bool:
        """Says whether the pattern matches any check of this case."""
        return fnmatchcase(case.operation, self.operation) and fnmatchcase(case.name, self.case)


def all_checks(
    implementations: Iterable[Implementation], cases: Sequence[AnyCase], devices: Sequence[str]
) -> list[Check]:
    """Makes a check of every case and every implementation that promises what it asks."""
    return [
        Check(declared, case, device)
        for device in devices
        for declared in implementations
        for case in cases
        if asks(case, declared)
    ]


def number_of_checks(count: int) -> str:
    """Returns a number of checks in words.

    >>> number_of_checks(1), number_of_checks(12)
    ('1 check', '12 checks')
    """
    return f"{count} check{'s' * (count != 1)}"


def asks(case: AnyCase, implementation: Implementation) -> bool:
    """Says whether a case is for an implementation: its operation, and what it promises.

    Cases of thousands of ranks are for implementations that declare virtual ranks, for no other.
    """
    return (
        case.operation == implementation.operation
        and (case.kind == "virtual") == (implementation.runs == "virtual")
        and implementation.held_to in promises_of(case)
        and (implementation.steps == "several" or not getattr(case.question, "windows", ()))
        and (getattr(case.question, "observe", "") == "clipped") == (implementation.clip == "norm")
        and (not case.frameworks or implementation.framework in case.frameworks)
        and (not case.asked_of or _is_named(implementation, case.asked_of))
    )


def dimensions_of(question: object) -> int:
    """Returns how many dimensions the input of a shuffle has; 0 of every other question."""
    shape = getattr(question, "shape", ())
    return len(shape) and len(shape) - (getattr(question, "transform", "") == "vmapped")


def undeclared(check: Check) -> str:
    """Says what a check asks for that its implementation does not take; empty if it takes all."""
    declared, question = check.implementation, check.case.question
    dtype, dimensions = getattr(question, "dtype", ""), dimensions_of(question)
    if declared.dtypes and dtype and dtype not in declared.dtypes:
        return f"{dtype} is none of its dtypes: {', '.join(declared.dtypes)}"
    if declared.ndim and dimensions and dimensions not in declared.ndim:
        return f"it takes {' or '.join(map(str, declared.ndim))} dimensions, not {dimensions}"
    return ""


def promises_of(case: AnyCase) -> tuple[str, ...]:
    """Returns the promises whose implementations a case is asked of."""
    return case.promises or USUAL[case.operation]


def _is_named(implementation: Implementation, globs: Sequence[str]) -> bool:
    is_split = implementation.runs == "per_rank" and GATHERED in globs
    if implementation.batch == "whole" and WHOLE_BATCH in globs and not is_split:
        return True
    return any(fnmatchcase(implementation.name, glob) for glob in globs)


def selected(
    implementations: Sequence[Implementation],
    cases: Sequence[AnyCase],
    devices: Sequence[str],
    patterns: Sequence[str],
) -> list[Check]:
    """Makes the checks that any of the patterns matches; all of them without a pattern.

    Raises:
        UsageError: if a pattern matches none; its message names the nearest ids.
    """
    parsed = [Pattern.parse(text) for text in patterns]
    few = [
        each
        for each in implementations
        if any(pattern.takes_implementation(each) for pattern in parsed)
    ]
    # Those of the others would take longer than many a run; a name that is wrong needs them.
    are_few = bool(few) and all(any(map(pattern.takes_implementation, few)) for pattern in parsed)
    checks = all_checks(few if are_few else implementations, cases, devices)
    if not patterns:
        return checks
    chosen: dict[str, Check] = {}
    for text, pattern in zip(patterns, parsed, strict=True):
        matching = [c for c in checks if pattern.takes(c.implementation, c.case, c.device)]
        if not matching:
            raise UsageError(_no_match(text, checks))
        chosen.update((check.id, check) for check in matching)
    return [check for check in checks if check.id in chosen]


def _no_match(text: str, checks: Sequence[Check]) -> str:
    implementations = {check.implementation.id for check in checks}
    operations = {check.implementation.operation for check in checks}
    head, device, case = parted(text)
    pattern = Pattern.parse(head)
    within = [check for check in checks if pattern.takes_implementation(check.implementation)]
    if not within:
        names, pattern_part = implementations | operations, head
    elif device and not any(fnmatchcase(check.device, device) for check in within):
        names, pattern_part = {check.device for check in within}, device
    else:
        names, pattern_part = {check.case.name for check in within}, case
    if text.endswith(".py"):
        return f"{text!r} is a file, and no pattern of checks: conformance run --adapter {text}"
    near = get_close_matches(pattern_part, sorted(names), n=3, cutoff=0.4) or sorted(names)[:3]
    return f"no check matches {text!r}; nearest to {pattern_part!r}: {', '.join(near)}"
