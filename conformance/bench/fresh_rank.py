"""One rank of a check that has its processes to itself: joined, asked, left."""

import sys
from pathlib import Path

import numpy as np

from conformance.frameworks import torch_bench
from conformance.processes.rank_process import die_with_parent
from conformance.processes.torch_rendezvous import TorchPlace, TorchStation


def main(folder: str, parent: int, index: int, size: int, number: int) -> None:
    """Write the gradient to a file of this rank in the folder."""
    die_with_parent(parent)
    station = TorchStation(TorchPlace(index, size, f"{folder}/store", [size]))
    gradient = torch_bench.check(number, station.rank(size))
    np.save(Path(folder, f"gradient-{index}.npy"), gradient)
    torch_bench.leave()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
