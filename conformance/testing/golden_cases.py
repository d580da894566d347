"""Golden cases for a project's own tests: inputs, and a verdict on the answer.

>>> from conformance.testing.golden_cases import golden_cases
>>> [case] = golden_cases("channel_shuffle:identity-probe-f32-c6-g2")
>>> x = case.input("numpy")
>>> x.shape, case.groups
((3, 6, 4, 8), 2)
>>> case.verify(x.reshape(3, 2, 3, 4, 8).swapaxes(1, 2).reshape(x.shape))
>>> case.verify(x)  # doctest: +ELLIPSIS
Traceback (most recent call last):
...
AssertionError: channel_shuffle:identity-probe-f32-c6-g2: output: 384 of 576 elements are wrong...
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from conformance.core.checks import Check
from conformance.core.comparison import Arrays
from conformance.core.dtypes import DTYPES
from conformance.core.golden import Golden
from conformance.core.implementations import PROMISES, Implementation
from conformance.core.outcomes import Answer, NotExercised, Unsupported, UsageError
from conformance.core.questions import AnyCase
from conformance.core.verdict import NOT_CONFORMING, Verdict
from conformance.frameworks import bridge
from conformance.run.devices import NOWHERE, Machine
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.subjects import all_cases, solve


@dataclass(frozen=True)
class GoldenCase:
    """A question that a test may ask, with its right answer.

    Cases of channel shuffle are plain shuffles; cases of gradient mean have parameters, inputs and
    targets, as `docs/goldens.md` says.
    """

    case: AnyCase

    @property
    def id(self) -> str:
        """Returns `operation:name`."""
        return self.case.id

    def __str__(self) -> str:
        return self.id

    @property
    def groups(self) -> int:
        """Returns g, of a case of channel shuffle."""
        return int(self.case.question.groups)

    @property
    def question(self) -> Any:
        """Returns the question, whose fields say what the case asks."""
        return self.case.question

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Returns inputs by name; of gradient mean `parameter/NAME`, `inputs/k`, `targets/k`."""
        return self._golden.inputs

    @property
    def expected(self) -> Mapping[str, np.ndarray]:
        """Returns the right answers by name."""
        return self._golden.answers

    def input(self, framework: str = "torch", device: str = "cpu") -> Any:
        """Returns x (N, C, *spatial) of channel shuffle, as an array of numpy, torch or jax.

        Raises:
            Unsupported: if the framework has no such dtype or layout.
        """
        framework_bridge, question = bridge(framework), self.case.question
        values = self.inputs["input"]
        x = framework_bridge.array(values, DTYPES[question.dtype], question.layout, device)
        if framework == "jax" and x.dtype != values.dtype:
            raise Unsupported(f"jax makes {x.dtype} of {values.dtype}: set jax_enable_x64")
        return x

    def verify(self, answer: Any, promise: str = "") -> None:
        """Raises an error where the answer is wrong.

        A bounded case has the bounds of the array's own device: where products of matrices keep
        fewer bits than the dtype has, as with TF32, the bounds are as much wider.

        Args:
            answer: for channel shuffle the output, an array of any framework; for gradient mean
                the gradients by name of the parameter, or a sequence of such dicts, one per rank.
            promise: for gradient mean the promise: `rank_mean`, `sample_mean` or `rank_sum`.

        Raises:
            AssertionError: if the answer is wrong; the message says where it differs, and which
                known mistake it shows.
            NotExercised: if the array's device keeps so few bits that there is no bound.
        """
        by_rank = answer if isinstance(answer, list | tuple) else [answer]
        operation = self.case.operation
        framework, device = _home(next(iter(_arrays(by_rank[0])), None))
        implementation = Implementation(
            operation,
            "given",
            framework,
            promise or PROMISES[operation][0],
            "one_process",
            None,
            "",
            0,
        )
        machine = _machine(framework) if self.case.tier == "bounded" else NOWHERE
        examiner = Examiner(_Single(self._golden), machine=machine)
        prepared = examiner.prepare(Check(implementation, self.case, device))
        if isinstance(prepared, Verdict):
            raise NotExercised(f"{self.id}: {prepared.reason}")
        verdict = examiner.judge(prepared, [Answer(self._named(arrays)) for arrays in by_rank])
        if verdict.status in NOT_CONFORMING:
            raise AssertionError(f"{self.id}: {verdict.reason}")

    def _named(self, answer: Any) -> Arrays:
        if self.case.kind == "shuffle":
            return {"output": _values(answer)}
        kind = next(iter(self.expected)).split("/")[1]
        return {f"{kind}/{name}": _values(array) for name, array in answer.items()}

    @property
    def _golden(self) -> Golden:
        return solve(self.case) if self.case.on_the_fly else installed().by_case[self.case.id]


def golden_cases(*patterns: str) -> list[GoldenCase]:
    """Returns the cases that match these shell globs over `operation:name`, and suit a test.

    Raises:
        UsageError: if a glob matches none; the message names the nearest.
    """
    askable = [GoldenCase(case) for case in all_cases() if _is_askable(case)]
    chosen: dict[str, GoldenCase] = {}
    for pattern in patterns:
        matching = {case.id: case for case in askable if fnmatchcase(case.id, pattern)}
        if not matching:
            near = get_close_matches(pattern, [case.id for case in askable], n=3, cutoff=0.3)
            raise UsageError(
                f"no golden case matches {pattern!r}, which is OPERATION:CASE; "
                f"nearest: {', '.join(near) or 'none'}"
            )
        chosen |= matching
    return list(chosen.values())


def _is_askable(case: AnyCase) -> bool:
    question = case.question
    if case.kind == "average":
        return question.observe in ("gradients", "step")
    return (
        case.kind == "shuffle"
        and case.refusal is None
        and (question.derivative, question.observe, question.then) == ("none", "values", ())
        and question.transform == "plain"
    )


@dataclass(frozen=True)
class _Single:
    """The golden of one case, for an examiner that only judges."""

    golden: Golden

    def of(self, case: AnyCase) -> Golden:
        del case
        return self.golden


def _machine(framework: str) -> Machine:
    """Measures the bits that products of matrices keep, under this process's settings."""
    if framework == "numpy":
        return NOWHERE
    return Machine({framework: bridge(framework).describe()})


def _arrays(answer: Any) -> Iterable[Any]:
    return answer.values() if isinstance(answer, Mapping) else (answer,)


def _home(array: Any) -> tuple[str, str]:
    """Returns the framework of an array, and the device that it is on."""
    match type(array).__module__.partition(".")[0]:
        case "torch":
            return "torch", str(array.device)
        case "jax" | "jaxlib":
            kind = next(iter(array.devices())).platform
            return "jax", {"gpu": "cuda"}.get(kind, kind)
        case _:
            return "numpy", "cpu"


def _values(array: Any) -> np.ndarray:
    """Returns the bits of an array of any framework."""
    if type(array).__module__.partition(".")[0] == "torch":
        return bridge("torch").values(array, str(array.device))
    return np.asarray(array)
