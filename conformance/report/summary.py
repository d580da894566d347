"""One implementation's failures in one sentence: a name just where every wrong answer agrees."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.run.results import Record
from conformance.subjects import catalogue

_SHOWN = 3  # mistakes that are counted where none explains everything


@dataclass(frozen=True)
class Finding:
    """What the failures of one implementation have in common.

    Attributes:
        owner: `operation/implementation@device`.
        asked: how many checks there are of it.
        failed: how many do not conform.
        wrong: how many of those gave an answer; the others raised, died or were late.
        fitting: the mistakes that fit every one of these answers.
        counts: of each mistake, how many of these answers it fits, the most frequent first.
    """

    owner: str
    asked: int
    failed: int
    wrong: int
    fitting: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]

    @property
    def mistake(self) -> str | None:
        """The one that fits every wrong answer, if there is just one."""
        return self.fitting[0] if len(self.fitting) == 1 else None

    @property
    def sentence(self) -> str:
        """What a reader is told."""
        return f"{self.owner} fails {self.failed} of {self.asked} checks{self._reading()}"

    def _reading(self) -> str:
        if not self.wrong:
            return ", none of them with an answer"
        all_ = "it is" if self.wrong == 1 else "all are"
        if self.wrong < self.failed:
            one = "the one answer among them is"
            all_ = one if self.wrong == 1 else f"the {self.wrong} answers among them are"
        if self.mistake is not None:
            done = next((m.done for m in catalogue() if m.name == self.mistake), "")
            return f"; {all_} consistent with {self.mistake}{done and f': {done}'}"
        if self.fitting:
            return f"; {all_} consistent with {' and with '.join(self.fitting)}"
        if not self.counts:
            return "; no known mistake fits any of their answers"
        told = ", ".join(f"{name} {count}" for name, count in self.counts[:_SHOWN])
        return f"; no one mistake fits all of their {self.wrong} answers: {told}"


def findings(records: Sequence[Record]) -> tuple[Finding, ...]:
    """One for each implementation that does not conform, in the order in which they were met."""
    asked = Counter(record.owner for record in records)
    failed: dict[str, list[Record]] = {}
    for record in records:
        if not record.conforms:
            failed.setdefault(record.owner, []).append(record)
    return tuple(_finding(owner, asked[owner], mine) for owner, mine in failed.items())


def _finding(owner: str, asked: int, failed: Iterable[Record]) -> Finding:
    failures = list(failed)
    fits = [set(record.fits) for record in failures if record.answer is not None]
    counts = Counter(name for names in fits for name in names)
    # A file of another version may name mistakes that this one does not know: they come last.
    order = {mistake.name: place for place, mistake in enumerate(catalogue())}

    def place(name: str) -> tuple[int, str]:
        return order.get(name, len(order)), name

    common = set.intersection(*fits) if fits else set()
    return Finding(
        owner,
        asked,
        len(failures),
        len(fits),
        tuple(sorted(common, key=place)),
        tuple(sorted(counts.items(), key=lambda item: (-item[1], place(item[0])))),
    )
