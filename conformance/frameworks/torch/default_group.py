"""The ranks of a case as a launcher would start them: their group is the default process group.

Code that brings its own process group, as accelerate, Lightning and Trainer do, asks whether one is
there, and takes the default one; meshes and new groups are made of all of its ranks. The pool of
ranks is larger than most cases, and stays joined from case to case.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

# A case makes fewer groups than this, and a pool fewer calls: groups of the same name would meet in
# the store, and torch's functional collectives find a group by its name.
_GROUPS_OF_A_CASE, _CALLS_OF_A_SIZE = 1_000, 1_000_000
# Each group has threads and sockets of its own.
_MOST_LEFT = 40
_CALLS = "conformance/calls"


@contextmanager
def as_default(group: Any, changes: list[str]) -> Iterator[None]:
    """Makes the group that of all ranks, and sets what torchrun sets; all its ranks call at once.

    Args:
        group: of the case's ranks.
        changes: where it is noted that the process is to be replaced. Groups that are made inside
            stay, for torch's own caches hold on to them: a mesh that is equal to an older one is
            taken for it, groups and all. But what was destroyed cannot be used again, and many
            groups are too many.
    """
    outer, count, before_it = dist.group.WORLD, c10d._world.group_count, set(c10d._world.pg_map)
    first = c10d._world.group_count = _first_name(group)
    before = {name: os.environ.get(name) for name in _launched(group)}
    os.environ.update(_launched(group))
    c10d._update_default_pg(group)
    try:
        yield
    finally:
        if dist.group.WORLD is group:  # The code may have torn everything down.
            made, left = c10d._world.group_count - first, set(c10d._world.pg_map) - before_it
            if made and (not left or len(before_it) + len(left) > _MOST_LEFT):
                changes.append("process groups")
            c10d._world.group_count = count
            c10d._update_default_pg(outer)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_name(group: Any) -> int:
    """Returns the number of the first group that is made inside, the same on all ranks.

    Names are counted by each process, and ranks of larger cases have counted other groups.
    """
    _, store = c10d._world.pg_map[group]
    calls = (store.add(_CALLS, 1) - 1) // group.size()
    return (group.size() * _CALLS_OF_A_SIZE + calls) * _GROUPS_OF_A_CASE


def _launched(group: Any) -> Mapping[str, str]:
    """Returns what torchrun tells a process; what is known of the machine is left as it is."""
    rank, size = str(group.rank()), str(group.size())
    usual = {
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    return {
        "RANK": rank,
        "WORLD_SIZE": size,
        **{name: os.environ.get(name, value) for name, value in usual.items()},
    }
