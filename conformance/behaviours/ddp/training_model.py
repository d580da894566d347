"""A model of training: join(), and averaging models in the place of gradients."""

import numpy as np

from conformance.behaviours.ddp.parts_model import Rows, exactly

# The probe has the same value: two paths are equal if they end this near to each other.
NEAR = 1e-3


def join(*, inputs: Rows, by_initial: bool = True) -> dict[str, np.ndarray]:
    """Sums over the ranks still active, and divides by the initial W or by their number."""
    ranks = len(inputs)
    gradients = np.full((max(map(len, inputs)), ranks), np.nan)
    for step in range(len(gradients)):
        active = [rank for rank in range(ranks) if step < len(inputs[rank])]
        total = sum(inputs[rank][step] for rank in active)
        gradients[step, active] = exactly([total / (ranks if by_initial else len(active))])
    return {"gradients": gradients.astype(np.float32)}


class _Updates:
    """The optimizers in use, over f64, with rate 1/2."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = 0
        self.first: np.ndarray | float = 0.0
        self.second: np.ndarray | float = 0.0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        """Returns the update of the parameters."""
        self.steps += 1
        if self.name == "sgd":
            return -0.5 * gradient
        if self.name == "momentum":
            self.first = 0.5 * self.first + gradient
            return -0.5 * self.first
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        unbiased = np.sqrt(self.second / (1 - 0.999**self.steps))
        return -0.5 * (self.first / (1 - 0.9**self.steps)) / (unbiased + 1e-8)


def models_or_gradients(
    *,
    gradients: Rows,
    steps: int,
    optimizer: str = "sgd",
    restart: bool = False,
    clip: float | None = None,
    exact: bool = False,
) -> dict[str, np.ndarray]:
    """Computes both ways in f64.

    Raises:
        ValueError: if they end too near to each other to be told apart in f32.
    """
    own = np.array(gradients, np.float64)

    def clipped(gradient: np.ndarray) -> np.ndarray:
        if clip is None:
            return gradient
        return gradient * min(1.0, clip / (float(np.linalg.norm(gradient)) + 1e-6))

    updates = _Updates(optimizer)
    by_gradients = np.ones(own.shape[1])
    for _ in range(steps):
        by_gradients = by_gradients + updates(clipped(own.mean(0)))

    by_models = np.ones(own.shape[1])
    updates_by_rank = [_Updates(optimizer) for _ in own]
    for _ in range(steps):
        moved = [
            by_models + update(clipped(gradient))
            for update, gradient in zip(updates_by_rank, own, strict=True)
        ]
        by_models = np.mean(moved, axis=0)
        if restart:
            updates_by_rank = [_Updates(optimizer) for _ in own]

    apart = float(np.abs(by_gradients - by_models).max())
    if NEAR / 100 < apart < NEAR * 100:
        raise ValueError(f"the two ways end {apart} apart, too near to tell them apart")
    answers = {"near": np.array(apart <= NEAR)}
    if exact:
        answers["by_gradients"] = exactly(by_gradients)
        answers["by_models"] = exactly(by_models)
    return answers
