"""The outcomes of asking an implementation a question.

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

    `flaw` says what is wrong with them whatever their values are; empty where nothing is wrong.
    """

    arrays: Mapping[str, np.ndarray]
    flaw: str = ""


@dataclass(frozen=True)
class Raised:
    """An exception of the implementation or its framework.

    `type` is the bare name of the class, `bases` are the names of its ancestors, `where` is the
    innermost line of the implementation's own code (`file:line`), and the line of the library that
    raised, if one did; empty where neither is known.
    """

    type: str
    message: str
    bases: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Declined:
    """The question could not be asked, or its answer would show nothing."""

    status: Literal["unsupported", "not-exercised"]
    reason: str


@dataclass(frozen=True)
class Fate:
    """The process died, or did not answer in time."""

    status: Literal["crash", "timeout"]
    reason: str


Outcome: TypeAlias = Answer | Raised | Declined | Fate


class Unsupported(Exception):  # noqa: N818 - This is a message, not an error of the suite.
    """Raised where a package, device, dtype or transform is missing, by a bridge or an adapter.

    The check is `unsupported` then, with these words, and counts neither way. In code from outside
    `NotImplementedError` means the same, except where the case asks for an error.
    """


class NotExercised(Exception):  # noqa: N818
    """Raised by a bridge where the code would run without what the case asks about."""


class WrongAnswer(Exception):  # noqa: N818
    """Raised by a bridge where the answer is no array of this framework on the check's device."""
