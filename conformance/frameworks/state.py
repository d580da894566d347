"""Watches what a check may change in its process beside its answer: settings, hooks, the host.

What the next check finds must not depend on the last one. So the state that must be is set before
each check, and a process whose state differs after it is replaced.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

# What a framework says of its own state: the value of each setting by its name.
Settings = Mapping[str, object]
_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Watch:
    """The state of this process at one moment, to be compared with that of a later one."""

    def __init__(
        self, settings: Callable[[], Settings], namespaces: Iterable[ModuleType | type]
    ) -> None:
        """Notes the state.

        Args:
            settings: reads the framework's own settings.
            namespaces: modules and classes in which nothing may be replaced.
        """
        self._settings = settings
        self._before = {**_host(), **settings()}
        self._namespaces = {space: dict(vars(space)) for space in (np, *namespaces)}

    def changes(self) -> list[str]:
        """Returns in words what is not as it was."""
        after = {**_host(), **self._settings()}
        changed = [
            f"{name} from {_shown(value)} to {_shown(after[name])}"
            for name, value in self._before.items()
            if after[name] != value
        ]
        for space, names in self._namespaces.items():
            current = vars(space)
            # What is added is harmless: an import of a submodule adds its name.
            replaced = [name for name, value in names.items() if current.get(name) is not value]
            changed += [f"{space.__name__}.{name} replaced" for name in replaced]
        return changed


def _host() -> dict[str, object]:
    """Returns the settings of Python and of the process."""
    return {
        "the folder": _folder(),
        "the environment": tuple(os.environ.items()),
        "sys.path": tuple(sys.path),
        "warnings.filters": tuple(map(repr, warnings.filters)),
        "warnings.showwarning": warnings.showwarning,
        "signal handlers": tuple(map(signal.getsignal, _SIGNALS)),
        "timers": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "threads": tuple(sorted(thread.name for thread in threading.enumerate())),
        "the recursion limit": sys.getrecursionlimit(),
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
