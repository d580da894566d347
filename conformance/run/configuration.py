"""What a project says once: `[tool.conformance]` of its pyproject.toml.

| key | means |
|---|---|
| `adapters` | code from outside, as `--adapter` |
| `patterns` | the checks to ask, as PATTERN |
| `timeout` | seconds for one check |
| `quick` | ask few cases, as `--quick` |
| `known` | a file of differences on record, as `impls/known.toml` of the suite is one |

Paths are the project's own. What a call says itself counts more, key by key.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from conformance.core.checks import parted
from conformance.core.outside_files import checked, parse_toml, read_text

FILE = "pyproject.toml"
_TABLE = f"{FILE}: [tool.conformance]"


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    adapters: list[str] = []
    patterns: list[str] = []
    timeout: Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)] | None = None
    quick: bool = False
    known: str = ""


@dataclass(frozen=True)
class Configuration:
    """The table of a project, with its paths made whole; empty where there is none.

    `file` is where it stands.
    """

    adapters: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    timeout: float | None = None
    quick: bool = False
    known: Path | None = None
    file: Path | None = None

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """Returns what the table says of each command's options, by the options' names."""
        whom = {"adapters": self.adapters, "patterns": self.patterns}
        how = {"timeout": self.timeout, "quick": self.quick, "known": self.known}
        said: dict[str, Any] = {name: value for name, value in {**whom, **how}.items() if value}
        asking: dict[str, Any] = {
            name: said[name] for name in ("adapters", "known") if name in said
        }
        # Both draw cases themselves, of the implementations that the patterns name.
        if heads := tuple(dict.fromkeys(_without_case(text) for text in self.patterns)):
            asking["patterns"] = heads
        return {"run": said, "fuzz": asking, "mutants": asking}


def configuration(folder: Path) -> Configuration:
    """Reads the table of the nearest pyproject.toml, in a folder or in one around it.

    >>> configuration(Path("/"))
    Configuration(adapters=(), patterns=(), timeout=None, quick=False, known=None, file=None)

    Raises:
        UsageError: if the file or the table is damaged.
    """
    file = next((f / FILE for f in (folder, *folder.parents) if (f / FILE).is_file()), None)
    if file is None:
        return Configuration()
    tools: Any = parse_toml(read_text(file, str(file)), str(file)).get("tool", {})
    if not isinstance(tools, dict) or "conformance" not in tools:
        return Configuration()
    table = checked(tools["conformance"], _Table, f"{file.parent / _TABLE}")
    return Configuration(
        tuple(_adapter(name, file.parent) for name in table.adapters),
        tuple(table.patterns),
        table.timeout,
        table.quick,
        file.parent / table.known if table.known else None,
        file,
    )


def _without_case(pattern: str) -> str:
    """Returns a pattern of checks as one of implementations.

    >>> _without_case("*/mine@cpu:identity*"), _without_case("*/mine")
    ('*/mine@cpu', '*/mine')
    """
    head, device, _ = parted(pattern)
    return f"{head}@{device}" if device else head


def _adapter(name: str, folder: Path) -> str:
    """Returns an adapter's path, from the working folder where it is inside, or a module's name."""
    if not name.endswith(".py"):
        return name
    path, here = folder / name, Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
