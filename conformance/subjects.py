"""The four kinds of question: all that the suite knows of each, in one table."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol

from conformance.behaviours import ask as behaviour_ask
from conformance.behaviours import model
from conformance.behaviours import verdict as behaviour_verdict
from conformance.behaviours.data_parallel import cases as data_parallel_cases
from conformance.behaviours.ddp import cases as ddp_cases
from conformance.behaviours.jax import cases as jax_cases
from conformance.behaviours.jax import processes_cases
from conformance.channel_shuffle import ask as shuffle_ask
from conformance.channel_shuffle import inputs as shuffle_inputs
from conformance.channel_shuffle import mistakes as shuffle_mistakes
from conformance.channel_shuffle import verdict as shuffle_verdict
from conformance.core.ask import Ask, loaded
from conformance.core.checks import Check
from conformance.core.golden import Golden
from conformance.core.implementations import is_outside
from conformance.core.mistake import Mistake, Wrong
from conformance.core.outcomes import Answer, Unsupported
from conformance.core.questions import AnyCase, Kind
from conformance.core.rank import Rank
from conformance.core.verdict import Verdict
from conformance.frameworks import bridge
from conformance.gradient_mean import ask as gradient_ask
from conformance.gradient_mean import cases as gradient_cases
from conformance.gradient_mean import group_cases, step_cases, virtual_cases
from conformance.gradient_mean import mistakes as gradient_mistakes
from conformance.gradient_mean import solve as gradient_solve
from conformance.gradient_mean import verdict as gradient_verdict

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Subject(Protocol):
    """All that the suite knows of one kind of question."""

    def cases(self) -> Sequence[AnyCase]:
        """Returns its cases, in the order in which they are asked."""
        ...

    def solve(self, case: AnyCase) -> Golden:
        """Makes a case's inputs, the right answer, and its bounds; no framework takes part."""
        ...

    def ask(self, ask: Ask[Any], rank: Rank) -> Answer:
        """Puts the question to an implementation, in the rank's process."""
        ...

    def judge(self, check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
        """Judges the ranks' answers."""
        ...

    def wrong_answers(self, case: AnyCase, golden: Golden) -> Iterable[Wrong]:
        """Yields the wrong answers that the known mistakes give, and how each is named."""
        ...

    def drawn(self) -> "SearchStrategy[AnyCase]":
        """Returns what draws new cases, for `fuzz` and `mutants`; it needs Hypothesis."""
        ...


class _Shuffle:
    """Channel shuffle."""

    def cases(self) -> Sequence[AnyCase]:
        return shuffle_inputs.cases()

    def solve(self, case: AnyCase) -> Golden:
        return shuffle_inputs.solve(case)

    def ask(self, ask: Ask[Any], rank: Rank) -> Answer:
        del rank
        return shuffle_ask.answer(ask)

    def judge(self, check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
        return shuffle_verdict.judge(check, golden, answers)

    def wrong_answers(self, case: AnyCase, golden: Golden) -> Iterable[Wrong]:
        return shuffle_verdict.wrong_answers(case, golden)

    def drawn(self) -> "SearchStrategy[AnyCase]":
        from conformance.channel_shuffle import drawn

        return drawn.cases()


class _Average:
    """Gradients averaged over ranks that are processes or devices."""

    def cases(self) -> Sequence[AnyCase]:
        return (
            *gradient_cases.families(),
            *step_cases.families(),
            *group_cases.families(),
        )

    def solve(self, case: AnyCase) -> Golden:
        return gradient_solve.solve(case)

    def ask(self, ask: Ask[Any], rank: Rank) -> Answer:
        return gradient_ask.answer(ask, rank)

    def judge(self, check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
        return gradient_verdict.judge(check, golden, answers)

    def wrong_answers(self, case: AnyCase, golden: Golden) -> Iterable[Wrong]:
        return gradient_verdict.wrong_answers(case, golden)

    def drawn(self) -> "SearchStrategy[AnyCase]":
        from conformance.gradient_mean import drawn

        return drawn.cases()


class _Virtual:
    """Gradients averaged over thousands of ranks that one process holds."""

    def cases(self) -> Sequence[AnyCase]:
        return virtual_cases.cases()

    def solve(self, case: AnyCase) -> Golden:
        return gradient_solve.solve_virtual(case)

    def ask(self, ask: Ask[Any], rank: Rank) -> Answer:
        del rank
        return gradient_ask.virtual_answer(ask)

    def judge(self, check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
        return gradient_verdict.judge_virtual(check, golden, answers)

    def wrong_answers(self, case: AnyCase, golden: Golden) -> Iterable[Wrong]:
        return gradient_verdict.wrong_virtual_answers(case, golden)

    def drawn(self) -> "SearchStrategy[AnyCase]":
        from hypothesis.strategies import nothing

        return nothing()


class _Behaviour:
    """What the frameworks' own classes do beside the values that they compute."""

    def cases(self) -> Sequence[AnyCase]:
        return (
            *data_parallel_cases.cases(),
            *ddp_cases.cases(),
            *jax_cases.cases(),
            *processes_cases.cases(),
        )

    def solve(self, case: AnyCase) -> Golden:
        return Golden({}, model.answer(case.question))

    def ask(self, ask: Ask[Any], rank: Rank) -> Answer:
        return behaviour_ask.answer(ask, rank)

    def judge(self, check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
        return behaviour_verdict.judge(check, golden, answers)

    def wrong_answers(self, case: AnyCase, golden: Golden) -> Iterable[Wrong]:
        del case, golden
        return ()  # Its mistakes are broken classes of frameworks, which the tests put in place.

    def drawn(self) -> "SearchStrategy[AnyCase]":
        from hypothesis.strategies import nothing

        return nothing()


_SUBJECTS: Mapping[Kind, Subject] = {
    "shuffle": _Shuffle(),
    "average": _Average(),
    "behaviour": _Behaviour(),
    "virtual": _Virtual(),
}


def subject_of(case: AnyCase) -> Subject:
    """Returns the subject that a case belongs to."""
    return _SUBJECTS[case.kind]


def drawn(operation: str) -> "SearchStrategy[AnyCase]":
    """Returns what draws new cases of an operation."""
    return _SUBJECTS["shuffle" if operation == "channel_shuffle" else "average"].drawn()


@cache
def all_cases() -> tuple[AnyCase, ...]:
    """Returns every case of every operation, in the order in which they are asked."""
    return tuple(case for subject in _SUBJECTS.values() for case in subject.cases())


def solve(case: AnyCase) -> Golden:
    """Makes a case's inputs and its right answer: what `regen` stores."""
    return subject_of(case).solve(case)


def ask(payload: Ask[Any], rank: Rank) -> Answer:
    """Answers one question in the rank's process; what the implementation raises goes through.

    Raises:
        Unsupported: if the device has too little memory, among other reasons.
    """
    framework = bridge(payload.implementation.framework)
    if is_outside(payload.implementation):
        loaded(payload.implementation)  # What its import changes is in force before the reset.
    try:
        framework.settle(payload.device)
        framework.reset()
        watch = framework.watch()
        watch.note()
        try:
            with warnings.catch_warnings():  # torch's own Join changes the filters, too.
                return _SUBJECTS[payload.question.kind].ask(payload, rank)
        finally:
            rank.changes.extend(watch.changes())
    except Exception as error:
        if not framework.is_out_of_memory(error):
            raise
        words = shorten(str(error), 160, placeholder=" …")
        raise Unsupported(f"{payload.device} is out of memory: {words}") from error
    finally:
        framework.release(payload.device)


def without_doubles(mistakes: Iterable[Mistake[Any]]) -> tuple[Mistake[Any], ...]:
    """Returns the mistakes, whose names must be unique.

    Raises:
        ValueError: naming the first that is there twice.
    """
    by_name: dict[str, Mistake[Any]] = {}
    for mistake in mistakes:
        first = by_name.setdefault(mistake.name, mistake)
        if first is not mistake:
            raise ValueError(
                f"mistake {mistake.name} is there twice, in {first.operation} and "
                f"{mistake.operation}: a name means one thing"
            )
    return tuple(by_name.values())


_MISTAKES = without_doubles((*shuffle_mistakes.MISTAKES, *gradient_mistakes.MISTAKES))


def catalogue(operation: str | None = None) -> tuple[Mistake[Any], ...]:
    """Returns all mistakes, or those of one operation, in the order in which they are tried."""
    return tuple(mistake for mistake in _MISTAKES if operation in (None, mistake.operation))
