"""Cases as JSON, for cases that are added to the suite and for cases from outside.

{"operation": "channel_shuffle", "name": "mine", "question": {"shape": [1, 6, 1], "groups": 2}}
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from conformance.channel_shuffle.fills import FILLS
from conformance.core.dtypes import DTYPES
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase, Case, GradientQuestion, Refusal, ShuffleQuestion
from conformance.gradient_mean.models import MODELS, NOISY, SPECTROMETER

_QUESTIONS: dict[str, type[Any]] = {
    "channel_shuffle": ShuffleQuestion,
    "gradient_mean": GradientQuestion,
}
_GRADIENT_DTYPES = ("f64", "f32", "f16", "bf16")
_WORDS = ("about", "family")
_NAMES = ("clauses", "promises", "frameworks", "asked_of", "against")


def written(case: AnyCase) -> str:
    """Writes a case as a line of JSON, which `read` turns into the same case."""
    entry: dict[str, Any] = {"operation": case.operation, "name": case.name}
    entry |= {word: getattr(case, word) for word in (*_WORDS, *_NAMES) if getattr(case, word)}
    if case.refusal is not None:
        entry["refusal"] = asdict(case.refusal)
    return json.dumps({**entry, "question": case.parameters()}, ensure_ascii=False)


def read(text: str, place: str = "case") -> AnyCase:
    """Reads a case from JSON.

    >>> question = '"question": {"shape": [1, 6, 1], "groups": 2}'
    >>> read('{"operation": "channel_shuffle", %s}' % question).question.shape
    (1, 6, 1)

    Args:
        text: the JSON.
        place: the name of the text in errors, such as a file's name.

    Raises:
        UsageError: names the place, the field, its value and what would be right.
    """
    try:
        entry = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{place}: is not JSON ({error})") from error
    allowed = ("operation", "name", "question", "refusal", *_WORDS, *_NAMES)
    _check_fields(entry, allowed, place)
    operation = entry.get("operation")
    if operation not in _QUESTIONS:
        raise UsageError(f"{place}: operation is {operation!r}; known: {', '.join(_QUESTIONS)}")
    question = _question(_QUESTIONS[operation], entry.get("question"), f"{place}: question")
    words = {word: _as(str, entry.get(word, ""), f"{place}: {word}") for word in _WORDS}
    names = {name: _as(tuple[str, ...], entry.get(name, []), f"{place}: {name}") for name in _NAMES}
    digest = hashlib.sha256(repr(question).encode()).hexdigest()[:8]
    refusal = entry.get("refusal")
    case: AnyCase = Case(
        operation=operation,
        name=_as(str, entry.get("name", f"case-{digest}"), f"{place}: name"),
        family=words["family"] or "found",
        about=words["about"] or "a case from outside",
        question=question,
        refusal=refusal and _question(Refusal, refusal, f"{place}: refusal"),
        **names,
    )
    if wrong := _nonsense(case):
        raise UsageError(f"{place}: question: {wrong}")
    return case


def _nonsense(case: AnyCase) -> str:
    """Returns why a question cannot be asked or answered, or an empty text."""
    question = case.question
    if question.dtype not in DTYPES:
        return f"dtype is {question.dtype!r}; known: {', '.join(DTYPES)}"
    if question.kind == "average":
        return _nonsense_of_gradients(question)
    if question.fill not in FILLS:
        return f"fill is {question.fill!r}; known: {', '.join(FILLS)}"
    if (len(question.shape) < 2 and case.refusal is None) or min(question.shape, default=-1) < 0:
        return f"shape is {list(question.shape)}; (N, C, *spatial) is meant, none of them below 0"
    group_counts = (question.groups, *question.then)
    if case.refusal is None and any(
        type(groups) is not int or groups < 1 or question.channels % groups
        for groups in group_counts
    ):
        divisors = " and then ".join(map(str, group_counts))
        return (
            f"{question.channels} channels in {divisors} groups have no answer; where an error is "
            'right, say which: "refusal": {"type": "RuntimeError"}'
        )
    return ""


def _nonsense_of_gradients(question: GradientQuestion) -> str:
    models = (*MODELS, SPECTROMETER, *NOISY)
    if question.model not in models:
        return f"model is {question.model!r}; known: {', '.join(models)}"
    if question.dtype not in _GRADIENT_DTYPES:
        return f"dtype is {question.dtype!r}; of gradients: {', '.join(_GRADIENT_DTYPES)}"
    shards = question.shards
    if not shards or not shards[0] or len({len(row) for row in shards}) > 1:
        return f"shards are {shards}; K lists are meant, each of W counts"
    if any(min(row) < 0 or not sum(row) for row in shards):
        return f"shards are {shards}; every micro-batch has a sample, and none a negative number"
    return ""


def _check_fields(entry: Any, allowed: tuple[str, ...], place: str) -> None:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{place} is {entry!r:.60}; an object is meant, with {', '.join(allowed)}")
    unknown = next((name for name in entry if name not in allowed), None)
    if unknown is not None:
        raise UsageError(f"{place}: unknown field {unknown!r}; known: {', '.join(allowed)}")


def _question(kind: type[Any], entry: Any, place: str) -> Any:
    """Makes an instance of a dataclass of plain data."""
    own = {field.name for field in fields(kind)}
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name in own}
    _check_fields(entry, tuple(hints), place)
    missing = next(
        (f.name for f in fields(kind) if f.default is MISSING and f.name not in entry), None
    )
    if missing is not None:
        raise UsageError(f"{place}: {missing} is missing")
    return kind(
        **{name: _as(hints[name], value, f"{place}.{name}") for name, value in entry.items()}
    )


def _as(hint: Any, value: Any, place: str) -> Any:
    """Returns the value if it is of this type; lists become tuples."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_as(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin in (Union, UnionType) and type(value) in arguments:
        return value
    if origin is None and type(value) is hint:
        return value
    meant = " or ".join(map(repr, arguments)) if origin is Literal else hint
    meant = getattr(meant, "__name__", meant) if origin is None else meant
    raise UsageError(f"{place} is {value!r:.60}; {meant} is meant")
