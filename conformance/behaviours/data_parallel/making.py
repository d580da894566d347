"""How a case of `torch.nn.DataParallel` is put together."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from conformance.core.questions import BehaviourQuestion, Case

BehaviourCase: TypeAlias = Case[BehaviourQuestion]
Cases: TypeAlias = Iterator[BehaviourCase]

BOTH = ("torch_host_data_parallel", "torch_data_parallel")
REAL = ("torch_data_parallel",)
# (B, D): equal chunks, an odd rest, idle devices, fewer samples than devices, one sample.
SHAPES = ((8, 4), (9, 4), (5, 4), (3, 8), (1, 2))


def make_case(
    name: str,
    about: str,
    clauses: str,
    probe: str,
    asked_of: tuple[str, ...] = BOTH,
    **arguments: Any,
) -> BehaviourCase:
    """A case; `clauses` are separated by blanks, and `data_parallel` goes before `probe`."""
    return Case(
        "gradient_mean",
        name,
        "data-parallel",
        about,
        tuple(clauses.split()),
        BehaviourQuestion(f"data_parallel{probe}", tuple(arguments.items())),
        asked_of=asked_of,
    )


def sizes(batch: int, devices: int) -> dict[str, Any]:
    """The two arguments that most probes take."""
    return {"batch": batch, "devices": devices}
