"""Where replicas live, and what happens when one of them dies.

A world runs a function in W ranks and brings back what each of them gave, or its fate. It knows
nothing of operations, and this process never imports a framework: the ranks are processes of their
own, forked from a nursery that has the frameworks imported already (see `nursery.py`).
"""

from conformance.worlds.decisive import verdict_rank
from conformance.worlds.jax_processes import JaxNode, JaxProcesses, free_address
from conformance.worlds.jax_station import JaxPlace
from conformance.worlds.local import LocalWorld
from conformance.worlds.task import Rank, Task, World
from conformance.worlds.torch_ranks import TorchNode, TorchRanks
from conformance.worlds.torch_station import TorchPlace

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
