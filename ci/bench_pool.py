"""Measures what a pool of torch ranks saves; `conformance bench worlds` finds and runs this."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed
from conformance.processes import LocalWorld, Rank, Task, TorchRanks, World
from conformance.processes.fork_request import environment_for
from conformance.processes.rank_process import die_with_parent
from conformance.processes.torch_ranks import TorchAddress, TorchRendezvous

CHECKS, RANKS, LIMIT = 20, 8, 300.0


def check(number: int, rank: Rank) -> np.ndarray:
    """Averages the gradient of small integers, which no order of summation rounds."""
    import torch

    def integers(shape: Sequence[int], start: int) -> Any:
        return ((torch.arange(np.prod(shape)) * 3 + start) % 5 - 2).reshape(shape).float()

    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    for parameter in model.parameters():
        parameter.data = integers(parameter.shape, number)
    replica = torch.nn.parallel.DistributedDataParallel(model, process_group=rank.group)
    replica(integers((4, 8), number + rank.index + 1)).square().mean().backward()
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()]).numpy()


def jax_host(devices: int, _rank: Rank) -> np.ndarray:
    """Averages over this many JAX devices."""
    import jax

    return np.asarray(jax.pmap(lambda p: jax.lax.pmean(p, "d"), "d")(np.ones((devices, 64))))


def fresh_rank(folder: str, parent: int, index: int, size: int, number: int) -> None:
    """Runs one rank of a check that has its processes to itself."""
    die_with_parent(parent)
    rendezvous = TorchRendezvous(TorchAddress(index, size, f"{folder}/store", [size]))
    np.save(Path(folder, f"gradient-{index}.npy"), check(number, rendezvous.rank(size)))


def fresh(number: int, size: int) -> np.ndarray:
    """Asks a check in processes that are started for it and ended after it."""
    overrides = {"PYTHONPATH": ":".join(filter(None, sys.path)), "GLOO_SOCKET_IFNAME": "lo"}
    with TemporaryDirectory() as folder:
        start = partial(Popen, env=environment_for(overrides), stderr=PIPE)
        words = [[folder, os.getpid(), index, size, number] for index in range(size)]
        ranks = [start([sys.executable, __file__, *map(str, rank)]) for rank in words]
        try:
            errors = [rank.communicate(timeout=LIMIT)[1][-300:].decode() for rank in ranks]
            if any(rank.returncode for rank in ranks):
                raise UsageError(f"bench worlds: a fresh rank failed: {errors}")
        finally:
            for rank in ranks:
                rank.kill()
        return np.load(Path(folder, "gradient-0.npy"))


def timed_ask(world: World, function: str, payload: object, size: int = 1) -> tuple[Any, float]:
    """Returns rank 0's array, and the seconds that the task took."""
    started = time.perf_counter()
    outcomes = world.run(Task(f"bench_pool:{function}", payload, size), LIMIT)
    if all(isinstance(outcome, np.ndarray) for outcome in outcomes):
        return outcomes[0], time.perf_counter() - started
    raise UsageError(f"bench worlds: a rank did not answer: {outcomes}")


def held_below(pid: int) -> float:
    """Returns the GiB that the processes below this one hold; of shared memory, their shares."""
    total = 0.0
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        # A process may end while it is read.
        with suppress(OSError, IndexError):
            for child in map(int, children.read_text().split()):
                rollup = Path(f"/proc/{child}/smaps_rollup").read_text().split("Pss:")[1]
                total += int(rollup.split()[0]) / (1 << 20) + held_below(child)
    return total


def run(sizes: Sequence[int], repeat: int) -> None:
    """Prints medians as they are known, and at last the memory; Ctrl-C raises."""
    if not is_installed("torch"):
        raise UsageError("bench worlds needs torch")
    host = LocalWorld(("jax",), "conformance.frameworks:prepare_jax")
    with closing(TorchRanks(RANKS, "conformance.frameworks:prepare_torch")) as pool, closing(host):
        print(f"first start of a pool of {RANKS} ranks: {timed_ask(pool, 'check', 0)[1]:.1f} s")
        print("median seconds a check: one forward and backward of DistributedDataParallel")
        for size in sizes:
            on_pool, in_fresh = [], []
            for number in range(CHECKS):
                answer, seconds = timed_ask(pool, "check", number, size)
                on_pool.append(seconds)
                if number < repeat:
                    started = time.perf_counter()
                    assert fresh(number, size).tobytes() == answer.tobytes(), "two answers"
                    in_fresh.append(time.perf_counter() - started)
            single, pooled = median(in_fresh), median(on_pool)
            print(f"{size} ranks: pool {pooled:.4f} s ({CHECKS}), fresh {single:.2f} s ", end="")
            print(f"({repeat}), ratio {single / pooled:.0f}")
        if is_installed("jax"):
            timed_ask(host, "jax_host", RANKS)
        jax = f"a JAX host of {RANKS * is_installed('jax')} devices"
        print(f"memory of {RANKS} torch ranks and {jax}: {held_below(os.getpid()):.2f} GiB")


if __name__ == "__main__":
    fresh_rank(sys.argv[1], *map(int, sys.argv[2:]))
