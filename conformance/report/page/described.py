"""What the page says of a case: its words, its parameters, its inputs and its right answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.channel_shuffle import definition as oracle
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase, ShuffleQuestion
from conformance.gradient_mean.models import SPECTROMETER
from conformance.report.page import charts
from conformance.run.goldens import Goldens, installed
from conformance.run.results import Run

HEAD = 5  # Elements of an array that are shown.
MOST_CHANNELS = 64  # Channels of a permutation that is drawn.
_WIDEST = 90  # Characters of an array's elements.


def goldens_of(run: Run) -> Goldens | None:
    """Returns the goldens by which a run was judged; None where other goldens are installed."""
    try:
        goldens = installed()
    except UsageError:  # `conformance run` says what is wrong with them; a report shows none.
        return None
    return goldens if goldens.sha256 == run.header.get("goldens") else None


def of_case(
    key: tuple[str, str],
    case: AnyCase | None,
    clauses: tuple[str, ...],
    goldens: Goldens | None,
) -> dict[str, Any]:
    """Describes a case; one that the suite does not have is a name and its clauses."""
    operation, name = key
    known = {"operation": operation, "name": name, "clauses": list(clauses)}
    if case is None:
        return {**known, "family": "outside the suite", "about": "", "parameters": {}, "arrays": []}
    described: dict[str, Any] = {
        **known,
        "family": case.family,
        "about": case.about,
        "parameters": case.parameters(),
        "tier": case.tier,
        "arrays": [],
    }
    if case.refusal is not None:
        described["refusal"] = [case.refusal.type, case.refusal.words]
    if case.on_the_fly:
        described["hashed"] = True
    golden = goldens.by_case.get(case.id) if goldens is not None else None
    if golden is not None:
        described["arrays"] = [
            *(["input", name, *array_of(array)] for name, array in golden.inputs.items()),
            *(["answer", name, *array_of(array)] for name, array in golden.answers.items()),
        ]
    if case.kind == "shuffle":
        described |= _shuffle(case.question, golden.inputs if golden is not None else {})
    if golden is not None and is_spectrometer(case):
        described["weights"] = {
            name.partition("/")[0]: weights(array) for name, array in golden.answers.items()
        }
    return described


def is_spectrometer(case: AnyCase) -> bool:
    """Says whether the gradient shows how much each sample counts."""
    question = case.question
    return case.kind == "average" and (question.model, question.observe) == (
        SPECTROMETER,
        "gradients",
    )


def _shuffle(question: ShuffleQuestion, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the permutation that is right, and photographs where there are some."""
    groups, channels = question.groups, question.channels if len(question.shape) > 1 else 0
    is_shuffle = isinstance(groups, int) and groups > 0 and channels and channels % groups == 0
    if not is_shuffle or question.then or question.observe == "convolutions":
        return {}
    right = oracle.permutation(channels, int(groups))
    pictures: dict[str, Any] = {}
    if channels <= MOST_CHANNELS:
        pictures["permutation"] = right.tolist()
    if question.fill == "photographs" and "input" in inputs:
        sample = inputs["input"][0]
        pictures["photographs"] = [charts.photographs(sample), charts.photographs(sample[right])]
    return pictures


def array_of(array: np.ndarray) -> tuple[str, list[int], str]:
    """Describes an array: dtype, shape and the first elements.

    >>> array_of(np.array([[1.5, float("nan")]], dtype=np.float32))
    ('float32', [1, 2], '1.5 nan')
    """
    return str(array.dtype), list(array.shape), elements_of(array)


def elements_of(array: np.ndarray) -> str:
    """Writes the first elements; bytes of a text are that text."""
    flat = array.reshape(-1)[: 400 if array.dtype == np.uint8 and array.ndim == 1 else HEAD]
    if array.dtype == np.uint8 and array.ndim == 1 and array.size > 1:
        words = flat.tobytes().decode("utf-8", "replace")
        if words.isprintable():
            return repr(words)
        flat = flat[:HEAD]
    with np.errstate(invalid="ignore"):  # A signalling NaN is converted to be printed.
        written = " ".join(str(element) for element in flat)
    more = " …" if array.size > flat.size or len(written) > _WIDEST else ""
    return written[:_WIDEST] + more


def weights(gradient: np.ndarray) -> list[float]:
    """Returns how much each sample counts: the gradient of the spectrometer."""
    return [float(f"{weight:.6g}") for weight in gradient.reshape(-1).astype(np.float64)]
