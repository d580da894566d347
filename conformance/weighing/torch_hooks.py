"""Watch a torch script's own backward passes and optimizer steps, and change nothing of them.

A column is what a backward pass brings to each leaf, taken by a hook on the leaf before anybody
else's: the loop's own bits, without a second backward pass. What an optimizer sees is read when its
step begins. Whatever goes wrong in here is put on record, and the script goes on.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from conformance.weighing import torch_collectives
from conformance.weighing.records import SUMMED, Term
from conformance.weighing.torch_clips import Clipped
from conformance.weighing.torch_graph import graph_of
from conformance.weighing.torch_losses import terms_of
from conformance.weighing.torch_parameters import held, local, owners, parameter_names, state_of


class Enough(BaseException):
    """Raised once all steps are weighed; no `except Exception` of a script holds it."""


@dataclass
class Recorded:
    """A backward pass: what it brought to each leaf, by the leaf's id."""

    number: int
    columns: dict[int, torch.Tensor] = field(default_factory=dict)
    terms: list[Term] = field(default_factory=list)
    digest: str = ""
    couples: str = ""
    state: str = ""
    nodes: frozenset[int] = frozenset()
    is_spent: bool = False


@dataclass
class Window:
    """All that one optimizer's step is weighed by, on this rank.

    Attributes:
        parameters: in the optimizer's order.
        passes: the backward passes since its last step that reached one of its parameters.
        left: what was in .grad before the first of them, where that was not zero.
        clips: the calls of clip_grad_norm_ since then, on one of its parameters.
        unheld: names of what got gradients and no optimizer that stepped holds.
        is_of_copies: whether those have just the shapes of the optimizer's parameters.
    """

    optimizer: Optimizer
    parameters: list[torch.Tensor]
    passes: list[Recorded]
    left: dict[int, torch.Tensor]
    clips: list[Clipped]
    unheld: list[str]
    is_of_copies: bool


class Recorder:
    """Records passes and steps; hands every window to `weigh`."""

    def __init__(
        self,
        weigh: Callable[[Window], object],
        steps: int,
        look: Callable[[Optimizer], bool] | None = None,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch nothing yet.

        Args:
            weigh: called as an optimizer's step begins; returns when all ranks have called it, and
                whether to look on at this optimizer once all steps are weighed.
            steps: of each optimizer that steps at all, before the script is stopped.
            look: called then as its steps begin; returns whether enough was seen.
            began: called as a backward pass begins.
        """
        self._weigh, self._steps, self._look, self._began = weigh, steps, look, began
        self._apart: dict[int, bool] = {}
        self.looking: list[Optimizer] = []
        self._passes: list[Recorded] = []
        self._left: dict[int, torch.Tensor] = {}
        self._touched: set[int] = set()
        self._leaves: dict[int, torch.Tensor] = {}
        self._clips: list[Clipped] = []
        self._clips_seen: dict[int, int] = {}
        self._stepped: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._optimizers: dict[int, Optimizer] = {}
        self._running: list[Recorded] = []
        self._coupled = ""
        self._gathered: list[torch_collectives.Gathered] = []
        self._stepping: Optimizer | None = None
        self._within: list[Optimizer] = []
        self._awaited: Optimizer | None = None
        self._last_hooks: dict[int, Any] = {}
        self._number = 0
        self.problems: list[str] = []
        self.seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block is left."""
        backward = torch.autograd.backward
        torch.autograd.backward = self._wrapped_backward(backward)
        wraps = {
            "clip_grad_norm_": self._wrapped_clip,
            "clip_grads_with_norm_": self._wrapped_scale,
        }
        places = (torch.nn.utils, torch.nn.utils.clip_grad)
        originals = [
            (place, name, getattr(place, name))
            for place in places for name in wraps if hasattr(place, name)
        ]  # fmt: skip
        for place, name, original in originals:
            setattr(place, name, wraps[name](original))
        handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        try:
            with torch_collectives.watching(self._note_coupling, self._gathered.append):
                yield
        finally:
            torch.autograd.backward = backward
            for place, name, original in originals:
                setattr(place, name, original)
            for handle in (*handles, *self._last_hooks.values()):
                handle.remove()

    def _wrapped_backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(backward)
        def recorded(
            tensors: Any, grad_tensors: Any = None, *arguments: Any, **options: Any
        ) -> None:
            handles: list[Any] = []
            known = len(self.problems)
            try:
                handles = self._begin(tensors, grad_tensors)
            except Exception as error:  # noqa: BLE001 - an error of ours must not end the script
                self._fail("a backward pass was not recorded", error)
                self._running.append(Recorded(-1))
            try:
                return backward(tensors, grad_tensors, *arguments, **options)
            except BaseException:  # a graph that was freed: the script's own error, and not ours
                del self.problems[known:]
                raise
            finally:
                for handle in handles:
                    handle.remove()
                self._running.pop()

        return recorded

    def _begin(self, tensors: Any, grad_tensors: Any) -> list[Any]:
        """Put a hook on every leaf of the graph; a pass within a pass belongs to the outer one."""
        began = time.monotonic()
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        seeds = _listed(grad_tensors, len(roots))
        if self.looking:
            self._running.append(Recorded(self._number))
            return []
        graph = graph_of(roots)
        holders = owners(graph.leaves)
        if self._running:
            record = self._running[-1]
        else:
            self._began()
            terms, digest = terms_of(roots, seeds)
            self._number += 1
            past = self._coupled or self._gathered_into(roots)
            couples = past if past and graph.couples in ("", SUMMED) else graph.couples
            state = state_of(holders)
            record = Recorded(self._number, {}, terms, digest, couples, state, graph.numbers)
            self._passes.append(record)
            self._coupled = ""
            self._gathered.clear()
            self._stepping = None
        handles = []
        for leaf, owner in zip(graph.leaves, holders, strict=True):
            self._leaves[id(owner)] = owner
            self._look_at_what_is_left(owner)
            handles.append(_first_hook(leaf, functools.partial(_take, record, id(owner))))
        self._running.append(record)
        self.seconds += time.monotonic() - began
        return handles

    def _note_coupling(self, collective: str) -> None:
        self._coupled = f"{collective} past autograd"

    def _gathered_into(self, roots: Sequence[torch.Tensor]) -> str:
        """Say what brought the others' values into a loss past autograd; mostly nothing did."""
        found = (each.name for each in self._gathered if each.is_in(roots))
        return next((f"{name} past autograd" for name in found), "")

    def _look_at_what_is_left(self, owner: torch.Tensor) -> None:
        if id(owner) in self._touched:
            return
        self._touched.add(id(owner))
        left = owner.grad
        self._left.pop(id(owner), None)
        if left is not None and bool(torch.count_nonzero(local(left))):
            self._left[id(owner)] = left.detach().clone()

    def _before_step(self, optimizer: Optimizer, arguments: Any, options: Any) -> Any:
        if self._is_within_a_step(optimizer):
            return None
        is_outermost = not any(optimizer is each for each in self._within)
        self._within.append(optimizer)
        if is_outermost and _watch_inner_step(optimizer):
            self._awaited = optimizer
            return None
        self._awaited = None
        own = optimizer._optimizer_step_pre_hooks
        if not own:
            return self._at_step(optimizer, arguments, options)
        # Hooks of the script's own may still change the gradient: ours is to be the last.
        handle = self._last_hooks.get(id(optimizer))
        if handle is None or handle.id not in own:
            handle = self._last_hooks[id(optimizer)] = optimizer.register_step_pre_hook(
                self._at_step
            )
        own.move_to_end(handle.id)
        return None

    def _at_step(self, optimizer: Optimizer, arguments: Any, options: Any) -> Any:
        """Weigh the step, or with a closure what its first call leaves."""
        closure = arguments[1] if len(arguments) > 1 else options.get("closure")
        if not callable(closure):
            self._weigh_now(optimizer)
            return None
        calls: list[int] = []

        @functools.wraps(closure)
        def weighed_once() -> Any:
            loss = closure()
            if not calls:
                calls.append(1)
                self._weigh_now(optimizer)
            return loss

        if len(arguments) > 1:
            return (arguments[0], weighed_once, *arguments[2:]), options
        return arguments, {**options, "closure": weighed_once}

    def _weigh_now(self, optimizer: Optimizer) -> None:
        if self.looking:
            self._look_on(optimizer)
            return
        if self._taken.get(id(optimizer), 0) >= self._steps:
            return
        began = time.monotonic()
        try:
            self._apart[id(optimizer)] = bool(self._weigh(self._window(optimizer)))
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the script
            self._fail("a step was not weighed", error)
        try:
            self._close(optimizer)
        finally:
            self._stepping = optimizer
            self.seconds += time.monotonic() - began

    def _is_within_a_step(self, optimizer: Optimizer) -> bool:
        """Whether another optimizer that holds all its parameters was weighed, and steps by it."""
        outer = self._stepping
        if outer is None or outer is optimizer:
            return False
        return {id(p) for p in held(optimizer)} <= {id(p) for p in held(outer)}

    def _look_on(self, optimizer: Optimizer) -> None:
        if self._look is None or not any(optimizer is other for other in self.looking):
            return
        is_enough = True
        with suppress(RuntimeError):  # the other ranks take fewer steps
            is_enough = self._look(optimizer)
        self.looking = [o for o in self.looking if not (is_enough and o is optimizer)]
        if not self.looking:
            raise Enough

    def _window(self, optimizer: Optimizer) -> Window:
        self._optimizers[id(optimizer)] = optimizer
        parameters = held(optimizer)
        mine = {id(parameter) for parameter in parameters}
        since = self._stepped.get(id(optimizer), 0)
        everybody = mine.union(*({id(p) for p in held(o)} for o in self._optimizers.values()))
        reached = {key for record in self._passes for key in record.columns}
        unheld = reached - everybody
        names = parameter_names(optimizer) if unheld else {}
        return Window(
            optimizer,
            parameters,
            [r for r in self._passes if r.number > since and mine & r.columns.keys()],
            {key: left for key, left in self._left.items() if key in mine},
            [
                clip
                for clip in self._clips[self._clips_seen.get(id(optimizer), 0) :]
                if clip.parameters & mine
            ],
            sorted(names.get(key, "a tensor without a name") for key in unheld),
            sorted(tuple(self._leaves[key].shape) for key in unheld)
            == sorted(tuple(p.shape) for p in parameters),
        )

    def _close(self, optimizer: Optimizer) -> None:
        """Forget what this step was made of, so that memory holds one window."""
        parameters = held(optimizer)
        mine = {id(parameter) for parameter in parameters}
        self._stepped[id(optimizer)] = self._number
        self._touched -= mine
        self._clips_seen[id(optimizer)] = len(self._clips)
        for record in self._passes:
            for key in mine & record.columns.keys():
                del record.columns[key]
        owned = {id(p) for o in self._optimizers.values() for p in held(o)}
        is_first = not self._taken.get(id(optimizer))  # another one may take its first step next
        self._passes = [
            r
            for r in self._passes
            if r in self._running or (r.columns if is_first else r.columns.keys() & owned)
        ]

    def _after_step(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        if self._is_within_a_step(optimizer):
            return
        if self._within:
            self._within.pop()
        if any(optimizer is each for each in self._within):
            return
        if self._awaited is optimizer:  # what its class does comes to no step of a class below
            self._awaited = None
            self._weigh_now(optimizer)
        if self.looking:
            return
        self._stepping = None
        self._close(optimizer)  # passes of a closure's later calls are not the next step's
        self._taken[id(optimizer)] = self._taken.get(id(optimizer), 0) + 1
        if all(taken >= self._steps for taken in self._taken.values()):
            self.looking = [o for key, o in self._optimizers.items() if self._apart.get(key)]
            if not self.looking or self._look is None:
                raise Enough

    def _wrapped_clip(self, clip: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        @functools.wraps(clip)
        def recorded(parameters: Any, max_norm: float, *arguments: Any, **options: Any) -> Any:
            given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            norm = clip(given, max_norm, *arguments, **options)
            kind = arguments[0] if arguments else options.get("norm_type", 2.0)
            self._note_clip(given, max_norm, norm, is_two_norm=kind == 2)
            return norm

        return recorded

    def _wrapped_scale(self, scale: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(scale)
        def recorded(
            parameters: Any, max_norm: float, total_norm: Any, *arguments: Any, **options: Any
        ) -> None:
            given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            scale(given, max_norm, total_norm, *arguments, **options)
            self._note_clip(given, max_norm, total_norm, is_two_norm=False)

        return recorded

    def _note_clip(
        self, given: Sequence[torch.Tensor], limit: float, norm: Any, *, is_two_norm: bool
    ) -> None:
        try:
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            ids = frozenset(id(p) for p in given if p.grad is not None)
            clip = Clipped(float(limit), float(whole), self._number, ids, is_two_norm)
            self._clips.append(clip)
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the script
            self._fail("a clip was not recorded", error)

    def _fail(self, what: str, error: Exception) -> None:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where else ""
        self.problems.append(f"{what}: {type(error).__name__}: {error}{at}")


def _watch_inner_step(optimizer: Optimizer) -> bool:
    """See that hooks run in the step of a class below, if the optimizer's own calls that.

    What its own does before it, as to average gradients, is part of what is weighed.
    """
    kinds: list[Any] = [kind for kind in type(optimizer).__mro__ if "step" in vars(kind)]
    own, *below = kinds
    code = getattr(inspect.unwrap(own.step), "__code__", None)
    if below[:1] in ([], [Optimizer]) or code is None or "step" not in code.co_names:
        return False
    if not getattr(below[0].step, "hooked", False):
        below[0].step = Optimizer.profile_hook_step(below[0].step)
        below[0].step.hooked = True
    return True


def _listed(grad_tensors: Any, count: int) -> list[torch.Tensor | None]:
    if grad_tensors is None:
        return [None] * count
    return [grad_tensors] if isinstance(grad_tensors, torch.Tensor) else list(grad_tensors)


def _first_hook(leaf: torch.Tensor, hook: Callable[[torch.Tensor], None]) -> Any:
    """Register a hook that runs before the script's own, which may change the gradient.

    Autograd runs hooks in the order in which they were put into the dictionary, and does not see
    `OrderedDict.move_to_end`: the others are taken out and put in again.
    """
    handle = leaf.register_hook(hook)
    hooks = leaf._backward_hooks
    if hooks is not None and len(hooks) > 1:
        others = [(key, other) for key, other in hooks.items() if key != handle.id]
        for key, _ in others:
            del hooks[key]
        hooks.update(others)
    return handle


def _take(record: Recorded, key: int, gradient: torch.Tensor) -> None:
    """Keep what a pass brings to a leaf."""
    value = gradient.detach()
    value = value.to_dense() if value.is_sparse else value.clone()
    before = record.columns.get(key)
    record.columns[key] = value if before is None else before + value
