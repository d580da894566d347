"""What a probe's model saw in one process, as plain data, and the optimizer's steps in it.

A model of a probe writes down each batch that it is fed, with its parameters as they stand then.
Parameters that differ from those before show a step, whoever made it, wherever its gradients live.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Fed:
    """A batch that the model was called with in training.

    Attributes:
        rows: the items' numbers, row by row; 0 stands for padding and for what has no loss.
        table: the parameters, item by item, before; None where they are not whole here.
        is_backpropagated: whether a backward pass came through it.
        unit: the unit roundoff of the parameters' dtype.
        rank: where one process holds all ranks.
    """

    rows: Rows
    table: np.ndarray | None
    is_backpropagated: bool = True
    unit: float = 2.0**-24
    rank: int | None = None

    @property
    def items(self) -> tuple[int, ...]:
        """Return the items' numbers, from 0."""
        return tuple(item - 1 for row in self.rows for item in row if item > 0)


@dataclass(frozen=True)
class Stepped:
    """A step of an optimizer that could be seen.

    Attributes:
        lr: its learning rate.
        holds: whether the table is one of its parameters; else it is an engine's, on other tensors.
        gradient: the table's, whole, after the step; None where it cannot be had.
        table: the parameters after it, where it holds them.
        is_plain: whether parameters move by lr times gradient: SGD without momentum or decay.
    """

    lr: float
    holds: bool
    gradient: np.ndarray | None = None
    table: np.ndarray | None = None
    is_plain: bool = False


@dataclass(frozen=True)
class RankStep:
    """One step of the table's parameters, as one rank saw it.

    Attributes:
        feds: the batches of its window.
        gradient: that the optimizer saw, None where nobody could look.
        moved: how the parameters moved in it.
        lr: None where no optimizer was seen.
        reached: the largest size of each parameter around the step, by which its rounding goes.
        strayed: how they moved again before the next window; None where they stood.
    """

    feds: tuple[Fed, ...]
    moved: np.ndarray | None = None
    gradient: np.ndarray | None = None
    lr: float | None = None
    is_plain: bool = False
    reached: np.ndarray | None = None
    strayed: np.ndarray | None = None


@dataclass
class Log:
    """What happened in this process, in order."""

    events: list[Fed | Stepped] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, event: Fed | Stepped) -> int:
        """Write an event down, and return its place."""
        with self.lock:
            self.events.append(event)
            return len(self.events) - 1

    def backpropagated(self, place: int) -> None:
        """Write down that a backward pass came through a batch."""
        with self.lock:
            event = self.events[place] if place < len(self.events) else None
            if isinstance(event, Fed):
                self.events[place] = replace(event, is_backpropagated=True)

    def awaits(self, rows: Rows) -> bool:
        """Whether a batch of these rows was fed, and its backward pass has not come by."""
        with self.lock:
            fed = [e for e in self.events if isinstance(e, Fed) and e.rows == rows]
            return bool(fed) and not fed[-1].is_backpropagated

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self.events.clear()


_LOGS: dict[int, Log] = {}


def log_of(number: int) -> Log:
    """Return the log of a probe, which all copies of its model share within a process."""
    return _LOGS.setdefault(number, Log())


def new_log() -> int:
    """Begin a log, and return its number."""
    number = len(_LOGS)
    log_of(number)
    return number


def rank_steps(
    events: Sequence[Fed | Stepped], end: np.ndarray | None
) -> tuple[list[RankStep], tuple[Fed, ...]]:
    """Return the steps in a log, and the batches that no step came after.

    Args:
        events: of one rank.
        end: the parameters now; None where they cannot be read.
    """
    held = any(isinstance(event, Stepped) and event.holds for event in events)
    events = [event for event in events if isinstance(event, Fed) or event.holds or not held]
    feds = [event for event in events if isinstance(event, Fed)]
    if any(fed.is_backpropagated for fed in feds):
        events = [e for e in events if not isinstance(e, Fed) or e.is_backpropagated]
    reader = _Reader()
    for event in events:
        if isinstance(event, Fed):
            reader.fed(event)
        else:
            reader.stepped(event)
    if end is not None:
        reader.standing(end)
    return reader.steps, tuple(reader.window)


class _Reader:
    """Goes through a log, and closes a window at each step."""

    def __init__(self) -> None:
        self.steps: list[RankStep] = []
        self.window: list[Fed] = []
        self.table: np.ndarray | None = None
        self.waits = False

    def standing(self, table: np.ndarray) -> None:
        """Take the parameters as they stand; where they moved, a step was made before."""
        if self.table is None and not self.window:
            self.table = table
            return
        # Where the first table was not whole, the parameters were what they are made as.
        before = np.zeros_like(table) if self.table is None else self.table
        self.table = table
        reached = np.maximum(np.abs(table), np.abs(before))
        if self.waits:
            self.steps[-1] = replace(self.steps[-1], moved=table - before, reached=reached)
            self.waits = False
        elif np.array_equal(table, before):
            return
        elif self.window:
            moved = table - before
            self.steps.append(RankStep(tuple(self.window), moved=moved, reached=reached))
            self.window = []
        elif self.steps:
            last = self.steps[-1]
            if last.reached is not None:
                reached = np.maximum(reached, last.reached)
            self.steps[-1] = replace(last, strayed=table - before, reached=reached)

    def fed(self, event: Fed) -> None:
        if event.table is not None and not self._is_rounded(event):
            self.standing(event.table)
        self.window.append(event)

    def _is_rounded(self, event: Fed) -> bool:
        """Whether a batch saw the parameters as they stand, rounded to a narrower dtype."""
        if self.table is None or self.waits or event.table is None:
            return False
        off = np.abs(event.table - self.table)
        return bool((off <= event.unit * np.abs(self.table)).all())

    def stepped(self, event: Stepped) -> None:
        if not self.window:
            return  # an optimizer of other parameters, or a second one of the same engine
        self.steps.append(
            RankStep(tuple(self.window), None, event.gradient, event.lr, event.is_plain)
        )
        self.window, self.waits = [], True
        if event.table is not None:
            self.standing(event.table)


def as_plain(events: Sequence[Fed | Stepped]) -> list[dict[str, Any]]:
    """Return events as plain data, which `json` and `pickle` can write."""
    return [
        {
            "kind": type(event).__name__,
            **{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(event).items()},
        }
        for event in events
    ]


def from_plain(data: Sequence[Mapping[str, Any]]) -> list[Fed | Stepped]:
    """Return the events that `as_plain` made plain."""
    events: list[Fed | Stepped] = []
    for row in data:
        fields = {k: v for k, v in row.items() if k != "kind"}
        for name in ("table", "gradient"):
            if fields.get(name) is not None:
                fields[name] = np.array(fields[name], float)
        if row["kind"] == "Fed":
            events.append(Fed(**{**fields, "rows": tuple(map(tuple, fields["rows"]))}))
        else:
            events.append(Stepped(**fields))
    return events
