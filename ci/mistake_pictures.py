"""How a mistake looks in an answer: the judge's words, and a picture where one can be drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.channel_shuffle.diagnosis import answer_of
from conformance.channel_shuffle.diagnosis import diagnose as diagnose_shuffle
from conformance.channel_shuffle.permutations import channel_permutation
from conformance.core.checks import promises_of
from conformance.core.comparison import difference
from conformance.core.mistake import Mistake
from conformance.core.questions import AnyCase, GradientQuestion
from conformance.gradient_mean.diagnosis import answers_of_mistakes
from conformance.gradient_mean.diagnosis import diagnose as diagnose_gradient
from conformance.gradient_mean.parts import Parts
from conformance.gradient_mean.verdict import is_right, promised
from conformance.proofs.kill_matrix import Kill
from conformance.report.page.described import is_spectrometer
from conformance.subjects import all_cases, solve

# Where there is a picture: the first of these that names the mistake is shown.
SHOWN = (
    "identity-probe-f32-c12-g3",
    "spectrometer-w4-n2-1-4-1-k1",
    "spectrometer-w2-n4-k3",
    "spectrometer-w3-n7-k5",
)
_GROUPS = ("#e8a377", "#79e2a4", "#a37be0", "#6fb3e8")
_GREY, _WRONG = "#8a8a8a", "#d3302f"
# A permutation has these sizes, in pixels.
_CELL, _ROW, _DROP = 30, 20, 62
# Weights have these sizes, in pixels.
_GAP, _HIGH = 12, 90
# A row is a number of samples, and the width of a bar for at most so many.
_BARS = ((12, 40), (40, 14))
_NARROW = 5


@dataclass(frozen=True)
class Seen:
    """How a mistake looks in an answer.

    Attributes:
        case: the case that shows it, in Markdown.
        words: the words of the verdict on that case.
        picture: a picture as SVG; empty where there is nothing to draw.
    """

    case: str
    words: str
    picture: str


def seen(mistake: Mistake[object], kills: Sequence[Kill]) -> Seen | None:
    """Returns how a mistake looks where it has its name; None if an error alone says so."""
    named = dict.fromkeys(kill.case for kill in kills if kill.is_named)
    cases = {case.id: case for case in all_cases() if case.id in named and not case.on_the_fly}
    places = {name: place for place, name in enumerate(SHOWN)}
    for case in sorted(cases.values(), key=lambda case: places.get(case.name, len(places))):
        look = _of_shuffle(mistake, case) or _of_gradient(mistake, case)
        if look is not None:
            return look
    return None


def _of_shuffle(mistake: Mistake[object], case: AnyCase) -> Seen | None:
    question = case.question
    if question.kind != "shuffle" or case.refusal is not None:
        return None
    golden = solve(case)
    wrong = answer_of(mistake.name, case, golden.inputs)
    differs = None if wrong is None else difference(wrong, golden.answers)
    if wrong is None or differs is None:
        return None
    diagnosis = diagnose_shuffle(case, golden.inputs, wrong, golden.answers)
    picture = ""
    if case.name == SHOWN[0]:
        pair = [
            channel_permutation(golden.inputs["input"], answer["output"])
            for answer in (golden.answers, wrong)
        ]
        picture = permutations(*pair, int(question.groups)) if all(pair) else ""
    return Seen(f"`{case.name}`", "; ".join((differs.words, *diagnosis.observed)), picture)


def _of_gradient(mistake: Mistake[object], case: AnyCase) -> Seen | None:
    question = case.question
    if question.kind != "average":
        return None
    golden = solve(case)
    for promise in promises_of(case):
        expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
        parts = Parts(question, golden.inputs, promise)
        answers = {
            known.name: wrong for known, wrong in answers_of_mistakes(parts, question.world_size)
        }.get(mistake.name)
        if not answers or is_right(answers[0], expected, bounds):
            continue
        by_rank = answers[0]
        diagnosis = diagnose_gradient(parts, expected, bounds, by_rank)
        if diagnosis.names == (mistake.name,):
            differs = difference(by_rank[0], expected)
            sentences = (*([differs.words] if differs else []), *diagnosis.observed)
            pair = (
                next(iter(arrays.values())).ravel().astype(np.float64)
                for arrays in (expected, by_rank[0])
            )
            picture = weights(question, *pair) if is_spectrometer(case) else ""
            return Seen(f"`{case.name}` as {promise}", "; ".join(sentences), picture)
    return None


def permutations(right: Sequence[int], wrong: Sequence[int], groups: int) -> str:
    """Draws both permutations as SVG, input channels above, output below, and marks wrong ones."""
    width = len(right) * _CELL
    drawn = [
        *_permutation(right, right, groups, 0, "right"),
        *_permutation(wrong, right, groups, width + 2 * _CELL, "given"),
    ]
    return _svg(2 * width + 2 * _CELL, 2 * _ROW + _DROP + 36, drawn)


def _permutation(
    moved: Sequence[int], right: Sequence[int], groups: int, left: int, title: str
) -> Iterator[str]:
    yield _text(left, 12, title, "start")
    above, below = 20, 20 + _ROW + _DROP
    size = len(moved) // groups
    for place, source in enumerate(moved):
        colour = _GROUPS[source // size % len(_GROUPS)]
        start, end = (left + (k + 0.5) * _CELL for k in (source, place))
        middle = above + _ROW + _DROP / 2
        yield (
            f'<path d="M{start:g} {above + _ROW}C{start:g} {middle:g} {end:g} {middle:g} '
            f'{end:g} {below}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        yield _channel(left + place * _CELL, above, place, _GROUPS[place // size % len(_GROUPS)])
        yield _channel(left + place * _CELL, below, source, colour)
        if source != right[place]:
            yield _text(end, below + _ROW + 13, "✗", "middle", _WRONG)


def _channel(x: float, y: float, number: int, colour: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{_CELL - 1}" height="{_ROW}" fill="{colour}"/>'
        + _text(x + _CELL / 2, y + 14, str(number), "middle", "#111")
    )


def weights(question: GradientQuestion, right: np.ndarray, wrong: np.ndarray) -> str:
    """Draws how much each sample counts, as SVG: what is right as an outline, the answer filled."""
    most = max(np.abs(right).max(), np.abs(wrong[np.isfinite(wrong)]).max(initial=0))
    drawn, x, sample = [], 0, 0
    wide = next((wide for samples, wide in _BARS if len(right) <= samples), _NARROW)
    for k, shards in enumerate(question.shards):
        for rank, count in enumerate(shards):
            label = f"rank {rank}" + (f", {k}" if question.micro_batches > 1 else "")
            if count * wide >= 40:
                drawn.append(_text(x, _HIGH + 16, label, "start"))
            for _ in range(count):
                drawn += _bar(x, wide - 3, right[sample] / most, wrong[sample] / most)
                x, sample = x + wide, sample + 1
            x += _GAP
    return _svg(x, _HIGH + 22, drawn)


def _bar(x: int, wide: int, right: float, wrong: float) -> Iterator[str]:
    colour = _WRONG if abs(wrong - right) > 2.0**-6 * abs(right) else "#2f8f6b"
    for share, look in ((wrong, f'fill="{colour}"'), (right, f'fill="none" stroke="{_GREY}"')):
        high = abs(share) * (_HIGH - 4) if np.isfinite(share) else 0
        yield (
            f'<rect x="{x + 1}" y="{_HIGH - high:.4g}" width="{wide}" height="{high:.4g}" {look}/>'
        )


def _text(x: float, y: float, words: str, anchor: str, colour: str = _GREY) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def _svg(width: float, height: float, drawn: Sequence[str]) -> str:
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" font-size="12">\n'
        f"{body}\n</svg>\n"
    )
