"""Devices by name, and what of them is on this machine, as the frameworks say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from conformance.core.formats import Bits
from conformance.core.outcomes import UsageError
from conformance.frameworks import KINDS, Description

DEVICES = KINDS  # what can be named; a kind means every device of it
ALL = "all"
_NAME = re.compile(r"(?P<kind>[a-z]+)(:(?P<index>\d+))?")


def kind_of(device: str) -> str:
    """The kind of a device.

    >>> kind_of("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def named(devices: Sequence[str]) -> tuple[str, ...]:
    """The devices that a call names, each once; `all` is one of every kind.

    >>> named(["cuda:1", "all"])
    ('cuda:1', 'cpu', 'cuda', 'tpu', 'mps')

    Raises:
        UsageError: for a name that no device can have.
    """
    found: list[str] = []
    for device in devices:
        match = _NAME.fullmatch(device)
        if device == ALL:
            found += DEVICES
        elif match and match["kind"] in DEVICES and not (match["index"] and match["kind"] == "cpu"):
            found.append(device)
        else:
            known = f"{', '.join(DEVICES)}, {ALL}; of several GPUs one is cuda:N"
            raise UsageError(f"unknown device {device!r}; known: {known}")
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Machine:
    """What each framework that is installed says of this machine."""

    described: Mapping[str, Description] = field(default_factory=dict)

    def lacks(self, framework: str, device: str) -> str:
        """Why a framework has no such device here; empty where it has, or says nothing."""
        one = self.described.get(framework)
        if one is None or _among(one, device):
            return ""
        kind = kind_of(device)
        if reason := one.missing.get(kind):
            return reason
        count = len(_among(one, kind))
        return f"{framework} sees {count} {kind} device{'s' * (count != 1)}: there is no {device}"

    def require(self, device: str) -> None:
        """Have a device.

        Raises:
            UsageError: if no framework has it; it says what there is, and why not this.
        """
        if any(_among(one, device) for one in self.described.values()):
            return
        there: dict[str, list[str]] = {}
        for framework, one in self.described.items():
            for name in one.devices:
                frameworks = there.setdefault("cpu" if kind_of(name) == "cpu" else name, [])
                frameworks += [framework] * (framework not in frameworks)
        told = ", ".join(f"{name} ({', '.join(by)})" for name, by in there.items())
        reasons = [self.lacks(framework, device) for framework in self.described]
        raise UsageError("; ".join([f"no device {device} here", f"there is {told}", *reasons]))

    def matmul_bits(self, framework: str, device: str, dtype: str) -> Bits | None:
        """The bits that every such device was measured to keep in a product of matrices."""
        one = self.described.get(framework)
        if one is None:
            return None
        found = [
            bits[dtype]
            for name, bits in one.matmul_bits.items()
            if device in (name, kind_of(name)) and dtype in bits
        ]
        return reduce(Bits.fewest, found) if found else None


# Nothing is known yet: so nothing is lacking either.
NOWHERE = Machine()


def _among(one: Description, device: str) -> list[str]:
    """The names that a framework has for a device, or for those of a kind."""
    return [name for name in one.devices if device in (name, kind_of(name))]
