"""Isolated processes in which the code under test runs, so that it cannot harm its caller.

A world runs a function in W ranks and returns the value of each rank, or how the rank failed. It
knows no operation, and it never imports a framework into the caller's process: the ranks are forked
from a server that has imported the frameworks already (see `fork_server.py`).
"""

from conformance.core.rank import Rank
from conformance.processes.jax_processes import JaxAddress, JaxNode, JaxProcesses, free_address
from conformance.processes.pool import LocalWorld
from conformance.processes.root_cause import verdict_rank
from conformance.processes.task import Task, World
from conformance.processes.torch_ranks import TorchAddress, TorchNode, TorchRanks

__all__ = [
    "JaxAddress",
    "JaxNode",
    "JaxProcesses",
    "LocalWorld",
    "Rank",
    "Task",
    "TorchAddress",
    "TorchNode",
    "TorchRanks",
    "World",
    "free_address",
    "verdict_rank",
]
