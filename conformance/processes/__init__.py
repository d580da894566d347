"""Where replicas live, and what happens when one of them dies.

A world runs a function in W ranks and brings back what each of them gave, or its fate. It knows
nothing of operations, and this process never imports a framework: the ranks are processes of their
own, forked from a nursery that has the frameworks imported already (see `nursery.py`).
"""

from conformance.processes.jax_processes import JaxNode, JaxProcesses, free_address
from conformance.processes.jax_rendezvous import JaxPlace
from conformance.processes.local import LocalWorld
from conformance.processes.root_cause import verdict_rank
from conformance.processes.task import Rank, Task, World
from conformance.processes.torch_ranks import TorchNode, TorchRanks
from conformance.processes.torch_rendezvous import TorchPlace

__all__ = [
    "JaxNode",
    "JaxPlace",
    "JaxProcesses",
    "LocalWorld",
    "Rank",
    "Task",
    "TorchNode",
    "TorchPlace",
    "TorchRanks",
    "World",
    "free_address",
    "verdict_rank",
]
