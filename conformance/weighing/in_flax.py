"""The probe for JAX: a model of Flax, Linen or NNX, whose backward pass tells what it was fed."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from conformance.weighing.probe import LOUDNESS, TARGET, Probe
from conformance.weighing.probe_layout import IGNORED, Layout
from conformance.weighing.probe_log import Fed, log_of, new_log


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _outputs(table: Any, ids: Any, number: int) -> Any:
    """Return 0 for every item; the derivative by its coordinate is large."""
    del number
    return jnp.zeros((*ids.shape, 1), table.dtype)


def _forward(table: Any, ids: Any, number: int) -> Any:
    return _outputs(table, ids, number), (table, ids)


def _backward(number: int, kept: Any, cotangent: Any) -> Any:
    table, ids = kept
    jax.debug.callback(partial(_write, number), ids, table[1:, 0], _rank())
    gradient = jnp.zeros_like(table).at[ids].add(cotangent * LOUDNESS)
    return gradient, np.zeros(ids.shape, jax.dtypes.float0)


_outputs.defvjp(_forward, _backward)


def _rank() -> Any:
    """Return the index along the mapped axes around here; -1 outside of any."""
    names = tuple(jax.sharding.get_abstract_mesh().manual_axes)
    return jax.lax.axis_index(names) if names else jnp.int32(-1)


def _write(number: int, ids: Any, table: Any, rank: Any) -> None:
    """Write down what one backward pass was fed; JAX calls it from a thread of its own."""
    rows = np.asarray(ids)
    unit = float(jnp.finfo(table.dtype).eps) / 2
    log_of(number).add(
        Fed(
            tuple(map(tuple, rows.reshape(rows.shape[0] if rows.ndim else 1, -1).tolist())),
            np.array(table, np.float64),
            unit=unit,
            rank=None if int(rank) < 0 else int(rank),
        )
    )


def _answer(coordinates: Any, loss: str, labels: Any) -> Any:
    outputs = coordinates
    if loss != "mse":
        outputs = jnp.concatenate([jnp.zeros_like(outputs), outputs], axis=-1)
    if labels is None:
        return outputs
    return {"loss": LOSSES[loss](outputs, labels), "logits": outputs}


class LinenModel(linen.Module):
    """Gives every item a coordinate of its own; for `init`, any batch will do."""

    items: int
    loss: str
    number: int

    @linen.compact  # type: ignore[untyped-decorator]
    def __call__(self, input_ids: Any, labels: Any = None) -> Any:
        """Return logits (…, 2), of a regression (…, 1); with labels a dict with the loss, too."""
        table = self.param("rows", linen.initializers.zeros, (self.items + 1, 1))
        return _answer(_outputs(table, input_ids, self.number), self.loss, labels)


class NnxModel(nnx.Module):
    """Gives every item a coordinate of its own."""

    def __init__(self, items: int, loss: str, number: int) -> None:
        self.rows = nnx.Param(jnp.zeros((items + 1, 1)))
        self.loss, self.number = loss, number

    def __call__(self, input_ids: Any, labels: Any = None) -> Any:
        """Return logits (…, 2), of a regression (…, 1); with labels a dict with the loss, too."""
        return _answer(_outputs(self.rows[...], input_ids, self.number), self.loss, labels)


def _cross_entropy(outputs: Any, labels: Any) -> Any:
    is_item = labels != IGNORED
    classes = jnp.where(is_item, labels, 0)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(outputs), classes[..., None], -1)[..., 0]
    return (losses * is_item).sum() / is_item.sum()


def _squared(outputs: Any, labels: Any) -> Any:
    return jnp.square(outputs - labels).mean()


def _next_token(outputs: Any, labels: Any) -> Any:
    return _cross_entropy(outputs[:, :-1], labels[:, 1:])


LOSSES = {"cross_entropy": _cross_entropy, "mse": _squared, "next_token": _next_token}


class ArrayData:
    """The samples as arrays: an index, a slice or an array of indices gives a batch."""

    def __init__(self, layout: Layout, loss: str) -> None:
        numbers, labels = (array.astype(np.int32) for array in layout.sequences())
        if loss == "next_token":
            self.arrays: Any = {"input_ids": numbers, "labels": labels}
            return
        samples = len(layout.lengths)
        targets = np.full((samples, 1), TARGET, np.float32)
        self.arrays = numbers[:, 0], targets if loss == "mse" else np.zeros(samples, np.int32)

    def __len__(self) -> int:
        arrays = self.arrays
        return len(arrays["labels"] if isinstance(arrays, dict) else arrays[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError(index)
        return jax.tree.map(lambda array: array[index], self.arrays)


class FlaxProbe(Probe):
    """The probe for Flax."""

    def __init__(self, layout: Layout, loss: str, kind: str) -> None:
        super().__init__(layout, loss, new_log())
        make = NnxModel if kind == "nnx" else LinenModel
        self.model = make(layout.items, loss, self.number)
        self.dataset = ArrayData(layout, loss)
        self.loss = LOSSES[loss]

    def records(self, model: Any) -> list[dict[str, Any]]:
        """Return what every rank saw, where ranks are devices of this process."""
        jax.effects_barrier()
        tables = self._tables(model)
        events = [e for e in log_of(self.number).events if isinstance(e, Fed)]
        world = max([len(tables), *((e.rank or 0) + 1 for e in events)])
        return [
            self.as_record(
                _by_table([e for e in events if (e.rank or 0) == rank]), tables[rank % len(tables)]
            )
            for rank in range(world)
        ]

    def _tables(self, model: Any) -> list[np.ndarray]:
        """Return the parameters; where they are stacked for devices, those of each."""
        if isinstance(model, linen.Module):
            raise ValueError("read(variables) takes the trained parameters: Linen's model has none")
        tree = nnx.state(model, nnx.Param) if isinstance(model, nnx.Module) else model
        shape = (self.layout.items + 1, 1)
        leaves = [leaf for leaf in jax.tree.leaves(tree) if np.shape(leaf)[-2:] == shape]
        if not leaves:
            raise ValueError("read() takes the probe's trained model, state or parameters")
        array = np.asarray(leaves[0], np.float64).reshape(-1, *shape)
        return [table[1:, 0] for table in array]


def _by_table(events: list[Fed]) -> list[Fed]:
    """Return events so that those of equal parameters stand together: devices may overtake."""
    order: dict[bytes, int] = {}
    for event in events:
        assert event.table is not None
        order.setdefault(event.table.tobytes(), len(order))
    return sorted(events, key=lambda event: order[event.table.tobytes()])  # type: ignore[union-attr]
