"""Devices by name, and which of them this machine has, as the frameworks describe it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from conformance.core.formats import Bits
from conformance.core.outcomes import UsageError
from conformance.frameworks import KINDS, Description

# A kind of device means every device of the kind.
DEVICES = KINDS
ALL = "all"
_NAME = re.compile(r"(?P<kind>[a-z]+)(:(?P<index>\d+))?")


def kind_of(device: str) -> str:
    """Returns the kind of a device.

    >>> kind_of("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def named(devices: Sequence[str]) -> tuple[str, ...]:
    """Returns the devices of a call, each once; `all` stands for every kind.

    >>> named(["cuda:1", "all"])
    ('cuda:1', 'cpu', 'cuda', 'tpu', 'mps')

    Raises:
        UsageError: if no device can have the name.
    """
    names: list[str] = []
    for device in devices:
        match = _NAME.fullmatch(device)
        if device == ALL:
            names += DEVICES
        elif match and match["kind"] in DEVICES and not (match["index"] and match["kind"] == "cpu"):
            names.append(device)
        else:
            known_names = f"{', '.join(DEVICES)}, {ALL}; of several GPUs one is cuda:N"
            raise UsageError(f"unknown device {device!r}; known: {known_names}")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Machine:
    """This machine, as each installed framework describes it."""

    described: Mapping[str, Description] = field(default_factory=dict)

    def lacks(self, framework: str, device: str) -> str:
        """Returns why a framework lacks a device; empty where it has it, or has no description."""
        description = self.described.get(framework)
        if description is None or _among(description, device):
            return ""
        kind = kind_of(device)
        if reason := description.missing.get(kind):
            return reason
        count = len(_among(description, kind))
        return f"{framework} sees {count} {kind} device{'s' * (count != 1)}: there is no {device}"

    def require(self, device: str) -> None:
        """Requires a device.

        Raises:
            UsageError: if no framework has it; the message says which devices there are, and why
                this one is missing.
        """
        if any(_among(description, device) for description in self.described.values()):
            return
        frameworks_of: dict[str, list[str]] = {}
        for framework, description in self.described.items():
            for name in description.devices:
                owners = frameworks_of.setdefault("cpu" if kind_of(name) == "cpu" else name, [])
                owners += [framework] * (framework not in owners)
        listed = ", ".join(f"{name} ({', '.join(by)})" for name, by in frameworks_of.items())
        reasons = [self.lacks(framework, device) for framework in self.described]
        raise UsageError("; ".join([f"no device {device} here", f"there is {listed}", *reasons]))

    def matmul_bits(self, framework: str, device: str, dtype: str) -> Bits | None:
        """Returns the fewest bits that such a device was measured to keep in matrix products."""
        description = self.described.get(framework)
        if description is None:
            return None
        measured = [
            bits[dtype]
            for name, bits in description.matmul_bits.items()
            if device in (name, kind_of(name)) and dtype in bits
        ]
        return reduce(Bits.fewest, measured) if measured else None


# A machine without any description lacks no device.
NOWHERE = Machine()


def _among(description: Description, device: str) -> list[str]:
    """Returns the names that a framework has for a device, or for the devices of a kind."""
    return [name for name in description.devices if device in (name, kind_of(name))]
