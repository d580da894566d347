"""One optimizer step, weighed by all ranks of a torch script together."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from conformance.weighing.findings import listed
from conformance.weighing.records import NOT_COME, Clip, Pass, Step, Term
from conformance.weighing.steps import Products, parts
from conformance.weighing.torch_clips import clips_of
from conformance.weighing.torch_exchange import Exchange, products
from conformance.weighing.torch_hooks import Window
from conformance.weighing.torch_parameters import held, local, parameter_names, state_of

if TYPE_CHECKING:
    from torch.optim.optimizer import Optimizer

_LOOKS, _LOOK_SECONDS = 512, 30.0  # steps that are looked on at, where ranks step apart
_WAIT = 300.0  # seconds for the other ranks to reach the step; a first step may compile for minutes


@dataclass
class _Look:
    """How far one has looked on at an optimizer's steps."""

    steps: int = 0
    began: float = field(default_factory=time.monotonic)


class Weigher:
    """Weighs windows; every rank gets the same steps."""

    def __init__(self) -> None:
        """Join the other ranks at the first step."""
        self._exchange: Exchange | None = None
        self._numbers: WeakKeyDictionary[Optimizer, tuple[int, int]] = WeakKeyDictionary()
        self._seen = 0
        self._looking: dict[int, _Look] = {}
        self._begun = self._met = 0
        self.waited = 0.0

    @property
    def exchange(self) -> Exchange:
        """Return the way to the other ranks, which is made when it is first needed."""
        if self._exchange is None:
            self._exchange = Exchange(_WAIT)
        return self._exchange

    def note_pass(self) -> None:
        """Tell the others that this rank begins a backward pass."""
        self._begun += 1
        self.exchange.note(self._begun, self._met)

    def last_word(self) -> str:
        """Return what the others said of a step that this rank did not take; mostly nothing."""
        try:
            return "" if self._exchange is None else self._exchange.last_word()
        except (RuntimeError, OSError):  # whoever kept the store has left as well
            return ""

    def weigh(self, window: Window, problems: Sequence[str]) -> Step:
        """Return the step that a window is, solved.

        Args:
            window: of this rank's optimizer.
            problems: what went wrong on this rank, so that its columns are not whole.
        """
        began = time.monotonic()
        exchange = self.exchange
        ordinal, before = self._numbers.get(window.optimizer, (self._seen + 1, 0))
        self._seen, number = max(self._seen, ordinal), before + 1
        self._numbers[window.optimizer] = ordinal, number
        waited = time.monotonic()
        self._met += 1
        problem = ""
        try:
            missed_by = exchange.absent(self._begun, self._met)
        except RuntimeError:
            missed_by, problem = [], NOT_COME
        self.waited += time.monotonic() - waited
        if missed_by or problem:
            name = f"{type(window.optimizer).__name__} {ordinal}"
            problem = problem or f"rank {listed(missed_by)} did not take it"
            return Step(number, name, exchange.world, [], [], problem=problem, missed_by=missed_by)
        names = parameter_names(window.optimizer)
        passes = [p for p in window.passes if _is_finite(p.columns.values())]
        gradients = [_whole(exchange, p, p.grad) for p in window.parameters]
        finite = _is_finite(g for g in gradients if g is not None)
        waited = time.monotonic()
        ranks = exchange.gather(
            {
                "sizes": [p.numel() for p in window.parameters],
                "passes": [
                    {
                        "terms": [asdict(term) for term in p.terms],
                        "digest": p.digest,
                        "is_spent": p.is_spent,
                        "couples": p.couples,
                        "state": p.state,
                        "forward": next(
                            k for k, q in enumerate(passes) if q.nodes & p.nodes or q is p
                        ),
                    }
                    for p in passes
                ],
                "state": state_of(p for p in window.parameters if not hasattr(p, "device_mesh")),
                "infinite": len(window.passes) - len(passes),
                "finite": finite,
                "left": bool(window.left),
                "clips": [asdict(clip) for clip in clips_of(window, exchange.rank, names)],
                "unheld": window.unheld,
                "copies": window.is_of_copies,
                "problems": list(problems),
                "unit": _unit(window),
                "narrow": _narrow(gradients),
            }
        )
        self.waited += time.monotonic() - waited
        step = Step(
            step=number,
            optimizer=f"{type(window.optimizer).__name__} {ordinal}",
            world=exchange.world,
            passes=[
                Pass(
                    rank,
                    k,
                    [Term(**term) for term in row["terms"]],
                    row["digest"],
                    row["is_spent"],
                    row["couples"],
                    row["state"],
                    row["forward"],
                )
                for rank, told in enumerate(ranks)
                for k, row in enumerate(told["passes"])
            ],
            parts=[],
            stale=[rank for rank, told in enumerate(ranks) if told["left"]],
            clips=[Clip(**clip) for told in ranks for clip in told["clips"]],
            unheld=ranks[0]["unheld"],
            problem=_problem(ranks),
            is_of_copies=ranks[0]["copies"],
            state=ranks[0]["state"] if len({told["state"] for told in ranks}) == 1 else "",
        )
        if step.problem:
            return step
        solved = self._solve(window, passes, gradients, ranks, names)
        _mark_spent(passes, solved, step.passes, exchange.rank)
        return Step(**{**_shallow(step), "parts": solved, "seconds": time.monotonic() - began})

    def look(self, optimizer: "Optimizer", *, at_end: bool = False) -> Step | None:
        """Compare the parameters of ranks that stepped apart; return a step once that is enough.

        They may be averaged every few steps. Enough is seen when they are the same on all ranks, or
        were not for long, or when the script has ended.
        """
        exchange = self.exchange
        look = self._looking.setdefault(id(optimizer), _Look())
        exchange.wait_at_most(_LOOK_SECONDS)
        look.steps += 1
        is_late = time.monotonic() - look.began > _LOOK_SECONDS
        told = exchange.gather([state_of(held(optimizer)), is_late])
        is_same = all(state == told[0][0] for state, _ in told)
        if not (is_same or at_end or look.steps >= _LOOKS or any(late for _, late in told)):
            return None
        ordinal, number = self._numbers[optimizer]
        name = f"{type(optimizer).__name__} {ordinal}"
        state = told[0][0] if is_same else ""
        return Step(number + look.steps, name, exchange.world, [], [], state=state, is_look=True)

    def _solve(
        self,
        window: Window,
        passes: Sequence[Any],
        gradients: Sequence[torch.Tensor | None],
        ranks: Sequence[dict[str, Any]],
        names: dict[int, str],
    ) -> list[Any]:
        exchange = self.exchange
        counts = [len(told["passes"]) + told["left"] + 1 for told in ranks]
        rows: list[list[torch.Tensor | None]] = []
        for parameter, gradient in zip(window.parameters, gradients, strict=True):
            row: list[torch.Tensor | None] = [p.columns.get(id(parameter)) for p in passes]
            if any(told["left"] for told in ranks):
                left = _whole(exchange, parameter, window.left.get(id(parameter)))
                row += [left] if window.left else []
            rows.append([*row, gradient])
        sizes = [p.numel() for p in window.parameters]
        grams, apart = products(exchange, rows, sizes, counts)
        # Order: all passes, then what was left on the ranks that had something, then gradients.
        starts = [sum(counts[:rank]) for rank in range(len(counts))]
        order = [
            start + k for start, told in zip(starts, ranks, strict=True)
            for k in range(len(told["passes"]))
        ]  # fmt: skip
        order += [
            start + len(told["passes"]) for start, told in zip(starts, ranks, strict=True)
            if told["left"]
        ]  # fmt: skip
        columns = len(order)
        order += [start + count - 1 for start, count in zip(starts, counts, strict=True)]
        return parts(
            Products(
                grams[:, order][:, :, order],
                apart,
                [names.get(id(p), f"parameter {i}") for i, p in enumerate(window.parameters)],
                sizes,
                columns,
                range(columns, len(order)),
                max(len(told["passes"]) + told["left"] for told in ranks),
                max(told["unit"] for told in ranks),
                ranks[0]["narrow"],
            )
        )


def _shallow(step: Step) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__dataclass_fields__}


def _problem(ranks: Sequence[dict[str, Any]]) -> str:
    """Say why a step cannot be weighed; empty where it can."""
    for rank, told in enumerate(ranks):
        if told["problems"]:
            return f"rank {rank}: {told['problems'][0]}"
        if told["sizes"] != ranks[0]["sizes"]:
            return (
                f"the optimizers of ranks 0 and {rank} hold parameters of other sizes: they are "
                "sharded in a way that is not known; use conformance.probe"
            )
        if not told["finite"]:
            return f"the gradient of rank {rank} is not finite"
    if not any(told["passes"] for told in ranks):
        infinite = sum(told["infinite"] for told in ranks)
        if infinite:
            return "every backward pass gave infinities or NaN: the scaler skipped the step"
        return "no backward pass reached the optimizer's parameters since its last step"
    return ""


def _mark_spent(
    passes: Sequence[Any], solved: Sequence[Any], told: Sequence[Pass], rank: int
) -> None:
    """Note which of this rank's passes counted in this step."""
    for column, one in enumerate(told):
        if one.rank != rank:
            continue
        passes[one.micro_batch].is_spent |= any(
            solution.counts(column) for part in solved for solution in part.by_rank
        )


def _is_finite(tensors: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _unit(window: Window) -> float:
    """Return the unit roundoff of the dtype that the optimizer's gradients are held in."""
    dtypes = {(p if p.grad is None else p.grad).dtype for p in window.parameters}
    return max((torch.finfo(d).eps / 2 for d in dtypes if d.is_floating_point), default=2.0**-24)


def _narrow(gradients: Sequence[torch.Tensor | None]) -> str:
    """Return a dtype that wide gradients fit into to the bit: they went through it."""
    whole = [g for g in gradients if g is not None and g.dtype == torch.float32]
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        if whole and all(torch.equal(g.to(dtype).float(), g) for g in whole):
            return name
    return ""


def _whole(
    exchange: Exchange, parameter: torch.Tensor, gradient: torch.Tensor | None
) -> torch.Tensor | None:
    """Return a gradient whole; of shards, those of the ranks that hold a copy between them."""
    if gradient is None or not hasattr(parameter, "device_mesh"):
        if gradient is None and hasattr(parameter, "device_mesh"):
            exchange.gather(None)
            exchange.gather_rows(torch.zeros(1, 1), [1] * exchange.world)
        return gradient if gradient is None else _plain(gradient)
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = parameter.device_mesh, parameter.placements
    shape, offset = compute_local_shape_and_global_offset(parameter.shape, mesh, placements)
    coordinate = mesh.get_coordinate() or []
    replica = [c for c, p in zip(coordinate, placements, strict=True) if p.is_replicate()]
    ranks = sorted(mesh.mesh.flatten().tolist())  # a mesh of one rank shares with nobody
    own = {"ranks": ranks, "replica": replica}
    told = exchange.gather({"shape": list(shape), "offset": list(offset), **own})
    shard = local(gradient).detach().reshape(1, -1).float()
    longest = max(_size(one["shape"]) for one in told if one)
    padded = torch.zeros(1, longest)
    padded[:, : shard.shape[1]] = shard
    gathered = exchange.gather_rows(padded, [1] * exchange.world)
    whole = torch.zeros(parameter.shape)
    for one, rows in zip(told, gathered, strict=True):
        if one and {name: one[name] for name in own} == own:
            at = tuple(slice(o, o + n) for o, n in zip(one["offset"], one["shape"], strict=True))
            whole[at] = rows[0, : _size(one["shape"])].reshape(one["shape"])
    return whole


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _plain(gradient: torch.Tensor) -> torch.Tensor:
    gradient = gradient.detach()
    return gradient.to_dense() if gradient.is_sparse else gradient
