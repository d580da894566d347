"""The probe for torch: a model, a data set and a loss that any trainer takes."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import Dataset

from conformance.weighing.probe import LOUDNESS, TARGET, Probe
from conformance.weighing.probe_layout import IGNORED, Layout
from conformance.weighing.probe_log import Fed, Stepped, log_of, new_log

_TRAINED: "WeakSet[ItemRows]" = WeakSet()  # in this process; copies of a model are there as well
_hooks: list[Any] = []


class ItemRows(nn.Embedding):
    """One coordinate for each item, which writes down what it is asked for in training.

    This is a module of its own because engines that shard parameters gather them module by module.
    """

    def __init__(self, items: int, number: int) -> None:
        super().__init__(items + 1, 1)
        nn.init.zeros_(self.weight)
        self.number = number

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch has
        """Return the coordinates (…, 1)."""
        coordinates = super().forward(input)
        if not (self.training and coordinates.requires_grad):
            return coordinates
        array = input.detach().cpu()
        length = array.shape[0] if array.ndim else 1
        rows = tuple(map(tuple, array.reshape(length, -1).tolist()))
        log = log_of(self.number)
        # Checkpointed activations are computed again inside of the backward pass.
        is_again = torch._C._current_graph_task_id() != -1 and log.awaits(rows)
        if not is_again:
            _TRAINED.add(self)
            fed = Fed(
                rows,
                _values(self.weight),
                is_backpropagated=False,
                unit=torch.finfo(self.weight.dtype).eps / 2,
            )
            place = log.add(fed)
            coordinates.register_hook(lambda _: log.backpropagated(place))
        return coordinates


class ProbeModel(nn.Module):
    """Gives every item a coordinate of its own, whose value never shows in the output.

    The output is 0 for every item, and its derivative by the item's coordinate is large. So an
    item's gradient does not change in training, and shows above any limit of a clip.
    """

    def __init__(self, items: int, loss: str, number: int) -> None:
        super().__init__()
        self.rows = ItemRows(items, number)
        self.loss = loss

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Any:
        """Return logits (…, 2), of a regression (…, 1); with labels a dict with the loss, too."""
        del attention_mask  # padding is known by its number
        coordinates = self.rows(input_ids)
        outputs = (coordinates - coordinates.detach()) * LOUDNESS
        if self.loss != "mse":
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=-1)
        if labels is None:
            return outputs
        return {"loss": LOSSES[self.loss](outputs, labels), "logits": outputs}


def _next_token(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(
        outputs[:, :-1].reshape(-1, 2), labels[:, 1:].reshape(-1), ignore_index=IGNORED
    )


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "next_token": _next_token,
}


class ProbeData(Dataset[Any]):
    """The items: pairs of an item's number and its label; for next tokens, padded sequences."""

    def __init__(self, layout: Layout, loss: str) -> None:
        self.layout, self.loss = layout, loss
        self._numbers, self._labels = map(torch.from_numpy, layout.sequences())

    def __len__(self) -> int:
        return len(self.layout.lengths)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        numbers, labels = self._numbers[index].clone(), self._labels[index].clone()
        if self.loss == "cross_entropy":
            return numbers[0], torch.tensor(0)
        if self.loss == "mse":
            return numbers[0], torch.tensor([TARGET])
        mask = (labels != IGNORED).long()
        return {"input_ids": numbers, "attention_mask": mask, "labels": labels}


class TorchProbe(Probe):
    """The probe for torch."""

    def __init__(self, layout: Layout, loss: str) -> None:
        super().__init__(layout, loss, new_log())
        self.model = ProbeModel(layout.items, loss, self.number)
        self.dataset = ProbeData(layout, loss)
        self.loss = LOSSES[loss]
        if not _hooks:
            _hooks.append(register_optimizer_step_post_hook(_after_step))

    def record(self, model: Any = None) -> dict[str, Any]:
        """Return what this process saw, as plain data: a trainer's processes may write it down."""
        model = self.model if model is None else model
        own = [m for m in model.modules() if isinstance(m, ItemRows) and m.number == self.number]
        if not own:
            raise ValueError("read(model) takes the probe's model, or what wraps it")
        trained = [rows for rows in tuple(_TRAINED) if rows.number == self.number]
        # A trainer that trains a copy leaves the model that it was given as it was.
        weight = (own[0] if own[0] in trained or len(trained) != 1 else trained[0]).weight
        with _gathered(weight):
            return self.as_record(log_of(self.number).events, _values(weight))

    def records(self, model: Any) -> list[dict[str, Any]]:
        """Return what every rank saw, where ranks are processes of a default group."""
        own = self.record(model)
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return [own]
        every: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(every, own)
        return every


def _after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
    """Write down an optimizer's step for the probes that were trained here."""
    del args, kwargs
    for rows in tuple(_TRAINED):
        weight = rows.weight
        groups = [g for g in optimizer.param_groups if any(p is weight for p in g["params"])]
        group = (groups or optimizer.param_groups)[0]
        keys = ("momentum", "weight_decay", "maximize")
        log_of(rows.number).add(
            Stepped(
                float(group.get("lr", 1.0)),
                bool(groups),
                _values(weight.grad) if groups and weight.grad is not None else None,
                _values(weight) if groups else None,
                isinstance(optimizer, torch.optim.SGD) and not any(group.get(k) for k in keys),
            )
        )


def _values(tensor: Any) -> np.ndarray | None:
    """Return the items' values in float64; None where the tensor is a part of the whole."""
    whole = tensor.detach()
    if hasattr(whole, "full_tensor"):
        if not torch.distributed.is_initialized():
            return None
        whole = whole.full_tensor()
    if whole.ndim != 2:
        return None
    return np.array(whole[1:, 0].double().cpu().numpy())


def _gathered(weight: Any) -> Any:
    """Return a context in which DeepSpeed's ZeRO-3 has a parameter whole."""
    deepspeed = sys.modules.get("deepspeed")
    if deepspeed is None or not hasattr(weight, "ds_id"):
        return nullcontext()
    return deepspeed.zero.GatheredParameters([weight])
