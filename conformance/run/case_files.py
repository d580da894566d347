"""Cases as JSON, for cases that are added to the suite and for cases from outside.

{"operation": "channel_shuffle", "name": "mine", "question": {"shape": [1, 6, 1], "groups": 2}}
"""

import hashlib
import json
import math
from dataclasses import MISSING, fields, replace
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec.structs import asdict

from conformance.channel_shuffle.fills import FILLS
from conformance.core.declarations import STEP_MEAN
from conformance.core.dtypes import DTYPES
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import checked, parse_json
from conformance.core.questions import AnyCase, Case, GradientQuestion, Refusal, ShuffleQuestion
from conformance.gradient_mean.models import (
    MODELS,
    NOISY,
    SPECTROMETER,
    TOKEN_SPECTROMETER,
    model_of,
)

_QUESTIONS: dict[str, type[Any]] = {
    "channel_shuffle": ShuffleQuestion,
    "gradient_mean": GradientQuestion,
}
_GRADIENT_DTYPES = ("f64", "f32", "f16", "bf16")
MOST_ELEMENTS, MOST_SAMPLES = 100_000_000, 100_000
_WORDS = ("about", "family")
_NAMES = ("clauses", "promises", "frameworks", "asked_of", "against")


def written(case: AnyCase) -> str:
    """Writes a case as a line of JSON, which `read` turns into the same case."""
    entry: dict[str, Any] = {"operation": case.operation, "name": case.name}
    entry |= {word: getattr(case, word) for word in (*_WORDS, *_NAMES) if getattr(case, word)}
    if case.refusal is not None:
        entry["refusal"] = vars(case.refusal)
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
    entry = checked(parse_json(text, place), _Entry, place)
    kind = _QUESTIONS[entry.operation]
    question = kind(
        **asdict(checked(entry.question, _FORMS[entry.operation], f"{place}: question"))
    )
    digest = hashlib.sha256(repr(question).encode()).hexdigest()[:8]
    names: dict[str, Any] = {name: tuple(getattr(entry, name)) for name in _NAMES}
    case: AnyCase = Case(
        operation=entry.operation,
        name=entry.name or f"case-{digest}",
        family=entry.family or "found",
        about=entry.about or "a case from outside",
        question=question,
        refusal=Refusal(**asdict(entry.refusal)) if entry.refusal else None,
        **names,
    )
    if wrong := _nonsense(case):
        raise UsageError(f"{place}: question: {wrong}")
    return case


class _Refusal(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    words: str = ""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    operation: Literal["channel_shuffle", "gradient_mean"]
    question: dict[str, Any]
    # A name is a part of ids, of patterns and of names of files.
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,200}\Z")] | None = None
    refusal: _Refusal | None = None
    about: str = ""
    family: str = ""
    clauses: list[str] = []
    promises: list[str] = []
    frameworks: list[str] = []
    asked_of: list[str] = []
    against: list[str] = []


def _form_of(kind: type[Any]) -> type[msgspec.Struct]:
    """Returns the schema of a kind of question: its own fields, and no others."""
    hints = get_type_hints(kind)
    return msgspec.defstruct(
        kind.__name__,
        [
            (own.name, hints[own.name])
            if own.default is MISSING
            else (own.name, hints[own.name], own.default)
            for own in fields(kind)
        ],
        forbid_unknown_fields=True,
    )


_FORMS = {operation: _form_of(kind) for operation, kind in _QUESTIONS.items()}


def _nonsense(case: AnyCase) -> str:
    """Returns why a question cannot be asked or answered, or an empty text."""
    question = case.question
    if question.dtype not in DTYPES:
        return f"dtype is {question.dtype!r}; known: {', '.join(DTYPES)}"
    if question.kind == "average":
        if bool(question.counts) != (case.promises == (STEP_MEAN,)):
            return f"counts are for cases whose promises are {STEP_MEAN} alone, and these have them"
        return _nonsense_of_gradients(question)
    if question.fill not in FILLS:
        return f"fill is {question.fill!r}; known: {', '.join(FILLS)}"
    if (size := math.prod(question.shape)) > MOST_ELEMENTS:
        return f"shape is {list(question.shape)}: {size} elements, of at most {MOST_ELEMENTS}"
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
    models = (*MODELS, SPECTROMETER, TOKEN_SPECTROMETER, *NOISY)
    if question.model not in models:
        return f"model is {question.model!r}; known: {', '.join(models)}"
    if question.dtype not in _GRADIENT_DTYPES:
        return f"dtype is {question.dtype!r}; of gradients: {', '.join(_GRADIENT_DTYPES)}"
    shards = question.shards
    if (samples := sum(sum(row) + len(row) for row in shards)) > MOST_SAMPLES:
        return f"shards have {samples} samples and ranks, of at most {MOST_SAMPLES}"
    if not shards or not shards[0] or len({len(row) for row in shards}) > 1:
        return f"shards are {shards}; K lists are meant, each of W counts"
    if any(min(row) < 0 or not sum(row) for row in shards):
        return f"shards are {shards}; every micro-batch has a sample, and none a negative number"
    if question.windows and (min(question.windows) < 1 or sum(question.windows) != len(shards)):
        return f"windows are {question.windows}; they share out {len(shards)} micro-batches"
    model = model_of(question)
    if question.terms and len(question.terms) + 1 != len(() if model.summed else model.heads):
        return f"terms are {question.terms}; one for each head of {question.model} after the first"
    if question.observe == "clipped" and question.tier == "exact":
        return "observe is 'clipped', whose tier is bounded: a norm is a root"
    term_by_term = (replace(question, counts=rows, terms=()) for rows in question.terms)
    each_term = (question, *term_by_term) if question.counts else ()
    return next(filter(None, map(_nonsense_of_counts, each_term)), "")


def _nonsense_of_counts(question: GradientQuestion) -> str:
    sample = model_of(question).sample
    if question.items == "tokens" and not model_of(question).tokens:
        return f"items are tokens, which {question.model} has none of"
    each = sample[0] if question.items == "tokens" else 1
    if [len(row) for row in question.counts] != [len(row) for row in question.shards]:
        return f"counts are {question.counts}; they have the form of shards"
    pairs = [
        (count, samples)
        for row in zip(question.counts, question.shards, strict=True)
        for count, samples in zip(*row, strict=True)
    ]
    if any(not 0 <= count <= samples * each or count * 4 % 1 for count, samples in pairs):
        return f"counts are {question.counts}; each is a number of quarters, at most of all items"
    if not question.window(-1)[0].all_items:
        return "counts are all 0: the mean over a step has an item"
    return ""
