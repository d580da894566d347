"""A case's group is the default process group of its ranks, as a launcher would have made it."""

import pytest

pytest.importorskip("torch")

from conformance.core import implementations as registry
from conformance.core.ask import Ask
from conformance.core.outcomes import Answer
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.inputs import inputs
from conformance.processes import Task, TorchRanks

QUESTION = GradientQuestion("linear", ((1, 1),))
HEAD = """
import os
import conformance
import torch
import torch.distributed as dist

@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def mine(model, loss, batches, group):
"""


@pytest.fixture(scope="module")
def ranks():
    with_more = TorchRanks(4, "conformance.frameworks:prepare_torch")
    yield with_more
    with_more.close()


@pytest.fixture
def told(ranks, tmp_path):
    """What two of four ranks leave as the gradient of `only.bias`."""

    def run(body, name, world=2):
        (tmp_path / name).write_text(HEAD + "".join(f"    {line}\n" for line in body.splitlines()))
        (mine,) = registry.adapter(str(tmp_path / name))
        question = GradientQuestion("linear", ((1,) * world,))
        asked = Ask(mine, question, inputs(question), "cpu")
        outcomes = ranks.run(Task("conformance.subjects:ask", asked, world), 60)
        assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
        return [outcome.arrays["gradient/only.bias"].tolist() for outcome in outcomes]

    return run


ALIKE = """assert dist.group.WORLD is group and dist.is_initialized()
model.only.bias.grad = torch.tensor([float(dist.get_rank()), float(dist.get_world_size())])"""
LAUNCHED = """names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
rank, world, local, size = (float(os.environ[name]) for name in names)
assert (rank, world) == (local, size) and os.environ["MASTER_ADDR"] and os.environ["MASTER_PORT"]
model.only.bias.grad = torch.tensor([rank, world])"""
MESH = """mesh = dist.device_mesh.init_device_mesh("cpu", (2, dist.get_world_size() // 2))
total = torch.ones(2)
dist.all_reduce(total, group=mesh.get_group(0))
dist.all_reduce(total[1:], group=mesh.get_group(1))
model.only.bias.grad = total"""


def test_it_is_the_default_group(told):
    assert told(ALIKE, "alike.py") == [[0, 2], [1, 2]]


def test_the_environment_is_torchrun_s(told):
    assert told(LAUNCHED, "launched.py") == [[0, 2], [1, 2]]


def test_meshes_are_of_its_ranks_time_and_again_and_of_every_size(told):
    for _ in range(2):
        assert told(MESH, "mesh.py") == [[2, 2]] * 2
        assert told(MESH, "mesh.py", 4) == [[2, 4]] * 4


def test_afterwards_everything_is_as_it_was(told):
    told(LAUNCHED, "launched.py")
    assert told(ALIKE, "alike.py", 4) == [[rank, 4] for rank in range(4)]
    assert told(ALIKE, "alike.py") == [[0, 2], [1, 2]]


def test_a_mesh_whose_groups_were_destroyed_is_not_met_again(told):
    destroyed = f"{MESH}\nfor axis in (0, 1):\n    dist.destroy_process_group(mesh.get_group(axis))"
    for _ in range(2):
        assert told(destroyed, "destroyed.py", 4) == [[2, 4]] * 4
    assert told(MESH, "mesh.py", 4) == [[2, 4]] * 4
