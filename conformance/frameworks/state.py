"""Watches what a check may change in its process beside its answer: settings, hooks, the host.

What the next check finds must not depend on the last one. So the state that must be is set before
each check, and a process whose state differs after it is replaced.
"""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

# What a framework says of its own state: the value of each setting by its name.
Settings = Mapping[str, object]
# torch's compiler notes addresses and folders in variables of these names, at its first use.
_COMPILER = ("_TORCH", "TORCHINDUCTOR_", "TRITON_")
_PATCHED_BY_TORCH = {"Module.__init__", "Module.__setstate__"}
# The signals that programs handle; asking about all 64 takes longer than many a check.
_SIGNALS = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "HUP", "QUIT", "ALRM", "CHLD", "PIPE", "USR1", "USR2", "SEGV")
)


class Watch:
    """The state of this process before a check, to be compared with that after it."""

    def __init__(
        self, settings: Callable[[], Settings], namespaces: Iterable[ModuleType | type]
    ) -> None:
        """Notes what the namespaces hold.

        Args:
            settings: reads the framework's own settings.
            namespaces: modules and classes in which nothing may be replaced.
        """
        self._settings = settings
        self._namespaces = {space: dict(vars(space)) for space in (np, *namespaces)}
        self._before: dict[str, object] = {}
        self._path: list[str] = []
        self._environment: dict[str, str] = {}

    def note(self) -> None:
        """Notes the settings, before a check."""
        self._before = {**_host(), **self._settings()}
        self._path, self._environment = list(sys.path), dict(os.environ)

    def changes(self) -> list[str]:
        """Returns in words what is not as it was."""
        after = {**_host(), **self._settings()}
        changed = [
            f"{name} from {_shown(value)} to {_shown(after[name])}"
            for name, value in self._before.items()
            if after[name] != value
        ]
        if sys.path[: len(self._path)] != self._path:  # What is appended hides no module.
            changed.append("sys.path")
        if (environment := dict(os.environ)) != self._environment:
            changed += _variables(environment, self._environment)
        for space, names in self._namespaces.items():
            if _is_equal(vars(space), names):
                continue  # This is the usual case, and a quick one.
            current = dict(vars(space))
            # A name that is added is harmless: an import of a submodule adds its own.
            replaced = [
                name
                for name, value in names.items()
                if current.get(name) is not value and not _is_own_patch(space, name, current)
            ]
            changed += [f"{space.__name__}.{name} replaced" for name in replaced]
            self._namespaces[space] = current
        return changed


def _variables(after: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    return [
        f"os.environ[{name!r}]"
        for name in sorted(after.keys() | before.keys())
        if after.get(name) != before.get(name) and not name.startswith(_COMPILER)
    ]


def _is_equal(current: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
    """Says whether two namespaces hold the same; identical values are not compared further."""
    try:
        return current == names
    except Exception:  # noqa: BLE001 - code under test put there what cannot be compared
        return False


def _is_own_patch(space: ModuleType | type, name: str, current: Mapping[str, Any]) -> bool:
    """Says whether it is torch that replaced this name: its compiler does so once, at first use."""
    module = str(getattr(current.get(name), "__module__", ""))
    return f"{space.__name__}.{name}" in _PATCHED_BY_TORCH and module.startswith("torch.")


def seed() -> None:
    """Seeds the generators of Python and NumPy that code under test may share."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the old global generator is the one that is shared


def _host() -> dict[str, object]:
    """Returns the settings of Python and of the process."""
    return {
        "the folder": _folder(),
        "signal handlers": tuple(map(signal.getsignal, _SIGNALS)),
        "timers": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "threads": tuple(sorted(thread.name for thread in threading.enumerate())),
        "the recursion limit": min(sys.getrecursionlimit(), 1000),  # The compiler raises it.
        "tracing": (sys.gettrace(), sys.getprofile()),
        "numpy.errstate": tuple(np.geterr().items()),
    }


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a text is compared, and nothing is done with a path
    except OSError:
        return "a folder that is gone"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
