"""What the failures of one implementation have in common: a name where every answer agrees."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from conformance.core.checks import dimensions_of
from conformance.core.questions import AnyCase
from conformance.run.results import Record
from conformance.subjects import all_cases, catalogue

_SHOWN = 3  # Mistakes that are counted where none explains everything.
# Two names for fewer answers explain little: code with two mistakes shows each of them again.
_LEAST = 5


@dataclass(frozen=True)
class Finding:
    """What the failures of one implementation have in common.

    Attributes:
        owner: `operation/implementation@device`.
        asked: how many checks there are of it.
        failures: the checks that do not conform.
        wrong: how many of these gave an answer; the others raised, died or were late.
        fitting: the mistakes that fit every one of these answers.
        counts: of each mistake, how many of these answers it fits, the most frequent first.
        pair: two mistakes of which one or the other fits each answer, where no single one does.
        ndim: how many dimensions the inputs of all answers have, and of no failure, where all
            failures raised.
        run: the label of the run, of several.
    """

    owner: str
    asked: int
    failures: tuple[Record, ...]
    wrong: int
    fitting: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    pair: tuple[str, ...] = ()
    ndim: tuple[int, ...] = ()
    run: str = ""

    @property
    def failed(self) -> int:
        """How many checks do not conform."""
        return len(self.failures)

    @property
    def mistake(self) -> str | None:
        """The mistake that fits every wrong answer, if there is just one."""
        return self.fitting[0] if len(self.fitting) == 1 else None

    @property
    def advice(self) -> str:
        """What to write instead, where a mistake has its name."""
        return next((m.advice for m in catalogue() if m.name == self.mistake), "")

    @property
    def sentence(self) -> str:
        """The finding, as a sentence with the owner in it."""
        return f"{self.owner} {self.reading}"

    @property
    def reading(self) -> str:
        """The finding, without the owner."""
        where = f" in {self.run}" if self.run else ""
        return f"fails {self.failed} of {self.asked} checks{where}{self._explanation}"

    @property
    def _explanation(self) -> str:
        if not self.wrong:
            images = " or ".join(map(str, self.ndim))
            declared = self.ndim[0] if len(self.ndim) == 1 else self.ndim
            words = f"; its answers are all to inputs of {images} dimensions, its errors to others:"
            words += f" if it is for such inputs alone, declare ndim={declared}"
            return f", none of them with an answer{words if self.ndim else ''}"
        all_ = "it is" if self.wrong == 1 else "all are"
        if self.wrong < self.failed:
            single = "the one answer among them is"
            all_ = single if self.wrong == 1 else f"the {self.wrong} answers among them are"
        if self.mistake is not None:
            done = next((m.done for m in catalogue() if m.name == self.mistake), "")
            return f"; {all_} consistent with {self.mistake}{done and f': {done}'}"
        if self.fitting:
            return f"; {all_} consistent with {' and with '.join(self.fitting)}"
        if not self.counts:
            return "; no known mistake fits any of their answers"
        if self.pair:
            often = dict(self.counts)
            either = " or with ".join(f"{name} ({often[name]})" for name in self.pair)
            return f"; each of {self.wrong} answers is consistent with {either}"
        counts = ", ".join(f"{name} {count}" for name, count in self.counts[:_SHOWN])
        return f"; no one mistake fits all of their {self.wrong} answers: {counts}"


def findings(records: Sequence[Record], run: str = "") -> tuple[Finding, ...]:
    """Returns one finding for each implementation that fails, in the order of the records."""
    owned: dict[str, list[Record]] = {}
    for record in records:
        owned.setdefault(record.owner, []).append(record)
    return tuple(
        _finding(owner, asked, run)
        for owner, asked in owned.items()
        if not all(record.conforms for record in asked)
    )


def _finding(owner: str, asked: Sequence[Record], run: str) -> Finding:
    failures = [record for record in asked if not record.conforms]
    fits = [set(record.fits) for record in failures if record.answer is not None]
    counts = Counter(name for names in fits for name in names)
    # A file of another version may name mistakes that this version does not know: they come last.
    order = {mistake.name: place for place, mistake in enumerate(catalogue())}

    def place(name: str) -> tuple[int, str]:
        return order.get(name, len(order)), name

    common = set.intersection(*fits) if fits else set()
    often = sorted(counts.items(), key=lambda item: (-item[1], place(item[0])))
    pair = _pair([name for name, _ in often], fits) if not common else ()
    return Finding(
        owner,
        len(asked),
        tuple(failures),
        len(fits),
        tuple(sorted(common, key=place)),
        tuple(often),
        pair,
        () if fits else _answered_dimensions(asked),
        run,
    )


def _answered_dimensions(asked: Sequence[Record]) -> tuple[int, ...]:
    """Returns the dimensions of the inputs that got answers, where no failure has any of them."""
    counts = {(case.operation, case.name): _dimensions(case) for case in all_cases()}
    of = {record.id: counts.get((record.operation, record.case), 0) for record in asked}
    failed = {of[record.id] for record in asked if not record.conforms}
    answered = {of[r.id] for r in asked if r.conforms and r.is_tested} - {0}
    return () if failed & {0, *answered} else tuple(sorted(answered))


def _dimensions(case: AnyCase) -> int:
    """Returns the dimensions of the input of a case that wants an answer; 0 of other cases."""
    return 0 if getattr(case, "refusal", None) else dimensions_of(case.question)


def _pair(names: Sequence[str], fits: Sequence[set[str]]) -> tuple[str, ...]:
    """Returns the first two mistakes of which each answer fits one or the other, if there are."""
    if len(fits) < _LEAST or not all(fits):
        return ()
    pairs = combinations(names, 2)
    return next((pair for pair in pairs if all(not one.isdisjoint(pair) for one in fits)), ())
