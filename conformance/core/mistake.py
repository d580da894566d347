"""What a known mistake is."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Wrong = TypeVar("Wrong")


@dataclass(frozen=True)
class Mistake(Generic[Wrong]):
    """A known wrong way, as code that gives the wrong answer.

    Attributes:
        name: fixed; what `mistake` says in results.jsonl.
        done: one sentence on what was done.
        advice: what to write instead, for a reader whose answer shows this.
        wrong: the code, in the oracle's terms.
        seen: where it shipped, empty where it is not known to have.
        is_by_element: whether its answers are those of different orders of a sum, so that one that
            is given may have each element from another of them.
    """

    name: str
    operation: str
    done: str
    advice: str
    wrong: Wrong
    seen: str = ""
    is_by_element: bool = False
