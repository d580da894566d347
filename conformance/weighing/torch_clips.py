"""Calls of clip_grad_norm_ as they were seen, and as they are told with a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.weighing.records import Clip

if TYPE_CHECKING:
    from conformance.weighing.torch_hooks import Window


@dataclass(frozen=True)
class Clipped:
    """A call of clip_grad_norm_: limit, norm, the passes there were, the parameters' ids."""

    limit: float
    norm: float
    number: int
    parameters: frozenset[int]
    is_two_norm: bool = True


def clips_of(window: "Window", rank: int, names: dict[int, str]) -> Sequence[Clip]:
    """Return the window's clips, each with how many of its passes came before."""
    mine = {id(p) for p in window.parameters if p.grad is not None}
    held = {id(p) for p in window.parameters}
    return [
        Clip(
            rank,
            clip.limit,
            clip.norm,
            sum(p.number <= clip.number for p in window.passes),
            is_of_all=clip.parameters == mine,
            is_two_norm=clip.is_two_norm,
            given=len(clip.parameters),
            own=len(clip.parameters & held),
            parameters=None
            if mine <= clip.parameters
            else sorted(names.get(key, "") for key in clip.parameters & mine),
            reached=[
                k for k, p in enumerate(window.passes) if p.columns.keys() & clip.parameters & mine
            ],
        )
        for clip in window.clips
    ]
