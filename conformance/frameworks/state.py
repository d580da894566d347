"""Watches what a check may change in its process beside its answer: settings, hooks, the host.

What the next check finds must not depend on the last one. So the state that must be is set before
each check, and a process whose state differs after it is replaced.
"""

import builtins
import gc
import json
import locale
import logging
import os
import pickle
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

# What a framework says of its own state: the value of each setting by its name.
Settings = Mapping[str, object]
# What runs beside a check, and its name.
Running = Mapping[object, str]
# torch's compiler notes addresses and folders in variables of these names, at its first use.
_COMPILER = ("_TORCH", "TORCHINDUCTOR_", "TRITON_")
_PATCHED_BY_TORCH = {"Module.__init__", "Module.__setstate__", "torch.manual_seed"}
# The signals that programs handle; asking about all 64 takes longer than many a check.
_SIGNALS = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "HUP", "QUIT", "ALRM", "CHLD", "PIPE", "USR1", "USR2", "SEGV")
)
# What code under test, the frameworks and the suite's own code in this process have in common.
_SHARED = (builtins, gc, json, logging, os, pickle, signal, socket, sys, threading, time, np)
_SUITE = "conformance."
_SERVING = (".subjects", ".ask", ".bridge", ".wire", ".replies", ".rank_process")
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_CORE)


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
        own = [module for name, module in sys.modules.items() if _serves_checks(name)]
        self._namespaces = {space: dict(vars(space)) for space in (*_SHARED, *own, *namespaces)}
        self._last = dict(self._namespaces)  # with what frameworks added later
        self._before: dict[str, object] = {}
        self._running: Mapping[str, Running] = {}
        self._lists: dict[str, list[Any]] = {}
        self._modules: dict[str, ModuleType | None] = {}
        # Thousands of submodules would take as long to look up as a quick check takes.
        self._names = [name for name in sys.modules if "." not in name or name.startswith(_SUITE)]
        self._environment: dict[str, str] = {}

    def note(self) -> None:
        """Notes the settings, before a check."""
        self._before = {**_host(), **self._settings()}
        self._running = _running()
        self._lists = {name: list(content) for name, content in _lists().items()}
        self._modules = {name: sys.modules.get(name) for name in self._names}
        self._environment = dict(os.environ)

    def changes(self) -> list[str]:
        """Returns in words what is not as it was."""
        try:
            sys.audit(f"{_SUITE}check")  # A hook that raises would meet the next check, too.
            return self._changes()
        except BaseException as error:  # noqa: BLE001 - code under test put there what raises it
            return [f"what it left cannot be read: {type(error).__name__}"]

    def _changes(self) -> list[str]:
        after = {**_host(), **self._settings()}
        changed = [
            f"{name} from {_shown(value)} to {_shown(after[name])}"
            for name, value in self._before.items()
            if after[name] != value
        ]
        # What ended by itself since then was an earlier check's, and harms nobody any more.
        for kind, running in _running().items():
            left = sorted(name for key, name in running.items() if key not in self._running[kind])
            changed += [f"{kind} left running: {_shown(', '.join(left))}"] if left else []
        # What is appended to a list of where to look hides nothing.
        changed += [
            name
            for name, content in _lists().items()
            if list(content[: len(self._lists[name])]) != self._lists[name]
        ]
        modules = {name: sys.modules.get(name) for name in self._names}
        gone = [name for name, module in modules.items() if module is not self._modules[name]]
        changed += ["sys.modules"] if len(gone) > 1 else [f"sys.modules[{name!r}]" for name in gone]
        if (environment := dict(os.environ)) != self._environment:
            changed += _variables(environment, self._environment)
        for space, names in self._namespaces.items():
            if _is_equal(vars(space), self._last[space]):
                continue  # This is the usual case, and a quick one.
            current = dict(vars(space))
            # A name that is added is harmless, and so is its end: an import of a submodule adds its
            # own, and torch's compiler what it compiled.
            replaced = [
                name
                for name, value in names.items()
                if current.get(name) is not value and not _is_own_patch(space, name, current)
            ]
            if isinstance(
                space, type
            ):  # In a class, a name that is added may hide an inherited one.
                added = current.keys() - names.keys()
                replaced += [n for n in added if any(n in vars(base) for base in space.__mro__[1:])]
            changed += [f"{space.__name__}.{name} replaced" for name in replaced]
            self._last[space] = current
        return changed


def _serves_checks(name: str) -> bool:
    """Says whether a module of the suite asks checks in this process, and sends what comes back."""
    return name.startswith(_SUITE) and name.endswith(_SERVING)


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
    """Says whether it is torch that replaced this name: its compiler does so when first used."""
    if f"{space.__name__}.{name}" not in _PATCHED_BY_TORCH:
        return False
    # A wrapper has the name and module of what it wraps; the file of its code is its own.
    code = getattr(current.get(name), "__code__", None)
    folder = Path(str(sys.modules["torch"].__file__)).parent
    return Path(getattr(code, "co_filename", "")).is_relative_to(folder)


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
        "the recursion limit": min(sys.getrecursionlimit(), 1000),  # The compiler raises it.
        "tracing": (sys.gettrace(), sys.getprofile()),
        "numpy.errstate": tuple(np.geterr().items()),
        "numpy.printoptions": str(np.get_printoptions()),
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "resource limits": tuple(map(resource.getrlimit, _LIMITS)),
        "the umask": _umask(),
        "denormal numbers": sys.float_info.min / 2 > 0,
        "the niceness": os.nice(0),
        "the locale": locale.setlocale(locale.LC_ALL),
        "garbage collection": (gc.isenabled(), gc.get_threshold(), len(gc.callbacks)),
        "logging": (logging.root.level, logging.root.manager.disable, len(logging.root.handlers)),
    }


def _running() -> dict[str, Running]:
    """Returns the threads and the child processes that are there; a child that ended is none."""
    children: dict[object, str] = {}
    # Other systems than Linux have no such files: there a rank's processes end with it alone.
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in _read(listed).split():
            name, _, state = _read(Path(f"/proc/{pid}/stat")).rpartition(") ")
            if state[:1] not in ("", "Z", "X"):
                children[pid] = name.partition("(")[2]
    return {
        "threads": {thread: thread.name for thread in threading.enumerate()},
        "processes": children,
    }


def _read(path: Path) -> str:
    """Returns a file of the kernel's; nothing where the thread or process that it is of ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lists() -> dict[str, Sequence[Any]]:
    """Returns the lists that Python goes through when it imports."""
    return {
        "sys.path": sys.path,
        "sys.meta_path": sys.meta_path,
        "sys.path_hooks": sys.path_hooks,
    }


def _umask() -> int:
    """Returns the mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a text is compared, and nothing is done with a path
    except OSError:
        return "a folder that is gone"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
