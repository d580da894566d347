"""What a persistent pool of torch ranks saves: the same checks on it and in fresh processes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from conformance.bench import Say, Settings, fresh
from conformance.bench.memory import Peak
from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed
from conformance.processes import LocalWorld, Task, TorchRanks, World

CHECKS = 20  # for each number of ranks, all of them on the pool
RANKS = JAX_DEVICES = 8
_LIMIT = 300.0
_GIB = 1 << 30
_JAX = ("jax", "conformance.subjects", "conformance.frameworks.jax.bridge", "flax")

Value = TypeVar("Value")


@dataclass
class Measured:
    """What is known so far; it grows.

    Attributes:
        start: seconds until a pool had started first.
        pool: by number of ranks, the seconds of each check on the pool.
        fresh: by number of ranks, those of each check in fresh processes.
        memory: the most that the ranks and a JAX host held together, in bytes; 0 if unknown.
        processes: how many processes held it.
        has_jax: whether a JAX host was among them.
        is_complete: whether nothing was left out.
    """

    start: float | None = None
    pool: dict[int, list[float]] = field(default_factory=dict)
    fresh: dict[int, list[float]] = field(default_factory=dict)
    memory: int | None = None
    processes: int = 0
    has_jax: bool = False
    is_complete: bool = False


def run(settings: Settings, console: Console, say: Say) -> bool:
    """Measure and print; whether it came to its end.

    Raises:
        UsageError: if torch is not installed, or a check fails.
    """
    if not is_installed("torch"):
        raise UsageError("bench worlds measures ranks of torch, which is not installed")
    measured = Measured()
    try:
        _measure(settings, measured, say)
        measured.is_complete = True
    except KeyboardInterrupt:
        say("interrupted: what was measured so far")
    show(measured, console)
    return measured.is_complete


def _measure(settings: Settings, measured: Measured, say: Say) -> None:
    with _open(TorchRanks(RANKS, "conformance.frameworks:prepare_torch")) as pool:
        say(f"starting a pool of {RANKS} ranks")
        measured.start = _timed(_ask, pool, "nothing", None, 1)[1]
        for size in settings.world_sizes:
            _compare(pool, size, settings.repeat, measured, say)
        measured.has_jax = is_installed("jax")
        say(f"memory of {RANKS} ranks{_host(measured)}")
        _weigh(pool, measured)


def _compare(pool: World, size: int, repeat: int, measured: Measured, say: Say) -> None:
    """The checks on the pool, and in between some of them in fresh processes."""
    also_fresh = [turn * CHECKS // repeat for turn in range(repeat)]
    on_pool = measured.pool.setdefault(size, [])
    in_fresh = measured.fresh.setdefault(size, [])
    for number in range(CHECKS):
        given, seconds = _timed(_ask, pool, "check", number, size)
        on_pool.append(seconds)
        if number not in also_fresh:
            continue
        other, seconds = _timed(fresh.check, number, size)
        in_fresh.append(seconds)
        if given.tobytes() != other.tobytes():
            raise UsageError(f"bench worlds: check {number} of {size} ranks has two answers")
        say(
            f"W = {size}, {number + 1}/{CHECKS}: {on_pool[-1]:.3f} s on the pool, "
            f"{seconds:.1f} s in fresh processes ({len(in_fresh)} of {repeat})"
        )


def _weigh(pool: World, measured: Measured) -> None:
    with _open(LocalWorld(_JAX, "conformance.frameworks:prepare_jax")) as host, Peak() as peak:
        _ask(pool, "check", 0, RANKS)
        if measured.has_jax:
            _ask(host, "on_all", JAX_DEVICES, 1, "jax_bench")
        _ask(pool, "check", 1, RANKS)
    measured.memory, measured.processes = peak.bytes, peak.processes


def _ask(
    world: World, function: str, payload: object, ranks: int, module: str = "torch_bench"
) -> Any:
    outcomes = world.run(
        Task(f"conformance.frameworks.{module}:{function}", payload, ranks), _LIMIT
    )
    failed = [one for one in outcomes if not isinstance(one, np.ndarray)]
    if failed:
        raise UsageError(f"bench worlds: a rank did not answer: {failed[0]}")
    return outcomes[0]


def _timed(call: Callable[..., Value], *arguments: Any) -> tuple[Value, float]:
    started = time.perf_counter()
    value = call(*arguments)
    return value, time.perf_counter() - started


@contextmanager
def _open(world: World) -> Iterator[World]:
    try:
        yield world
    finally:
        world.close()


def show(measured: Measured, console: Console) -> None:
    """Print medians, ratios, the first start, and the memory: what there is of them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ranks", justify="right")
    for heading in ("pool", "checks", "fresh processes", "checks", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for size, on_pool in measured.pool.items():
        in_fresh = measured.fresh.get(size, [])
        ratio = f"{median(in_fresh) / median(on_pool):.0f}" if on_pool and in_fresh else "·"
        table.add_row(
            str(size), _median(on_pool, 4), str(len(on_pool)), _median(in_fresh, 2),
            str(len(in_fresh)), ratio,
        )  # fmt: skip
    console.print("median seconds a check: one forward and backward of DistributedDataParallel")
    console.print(table)
    if measured.start is not None:
        console.print(f"first start of a pool of {RANKS} ranks: {measured.start:.1f} s")
    if measured.memory is not None:
        console.print(_memory(measured), soft_wrap=True)


def _median(seconds: list[float], digits: int) -> str:
    return f"{median(seconds):.{digits}f} s" if seconds else "·"


def _memory(measured: Measured) -> str:
    head = f"peak memory of {RANKS} torch ranks{_host(measured)}: "
    if not measured.memory:
        return head + "not told by this system"
    fact = "below" if measured.memory < 6 * _GIB else "not below"
    return f"{head}{measured.memory / _GIB:.2f} GiB in {measured.processes} processes, {fact} 6 GiB"


def _host(measured: Measured) -> str:
    return f" and a JAX host of {JAX_DEVICES} devices" if measured.has_jax else " (no JAX here)"
