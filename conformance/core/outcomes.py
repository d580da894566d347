"""What comes back when an implementation is asked a question.

An outcome is one of four things, and every later stage handles just these: it answered, it
raised, it declined before it was asked, or something ended its process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np


class UsageError(Exception):
    """The call or its input was wrong; the message is one line that says what would be right.

    The command line turns this exception, and no other, into a line and exit status 2.
    """


@dataclass(frozen=True)
class Answer:
    """Named arrays, in NumPy, exactly as the implementation gave them.

    `flaw` is what is wrong with them whatever their values, in words; empty where nothing is.
    """

    arrays: Mapping[str, np.ndarray]
    flaw: str = ""


@dataclass(frozen=True)
class Raised:
    """An exception of the implementation or its framework.

    `type` is the bare name of the class, `bases` those of its ancestors, `where` the innermost
    line of the implementation's own code (`file:line`), empty where it is not known.
    """

    type: str
    message: str
    bases: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Declined:
    """The question could not be put, or could but would ask nothing."""

    status: Literal["unsupported", "not-exercised"]
    reason: str


@dataclass(frozen=True)
class Fate:
    """The process died or was too late."""

    status: Literal["crash", "timeout"]
    reason: str


Outcome: TypeAlias = Answer | Raised | Declined | Fate


class Unsupported(Exception):  # noqa: N818 - it is a message, not an error of ours
    """Raised by a bridge: this package, device, dtype or transform is not here."""


class NotExercised(Exception):  # noqa: N818
    """Raised by a bridge: it would run, but not the thing that the case asks about."""


class WrongAnswer(Exception):  # noqa: N818
    """Raised by a bridge: what came back is no array of this framework on the device asked."""
