"""Scripts as people write them: mistakes have names, no right form is accused, no bit changes.

All scripts of one number of ranks share the processes of one torchrun. `python
tests/weigh/test_scripts.py 3 BF16=1 OPTIMIZER=adamw` weighs them on other ranks and prints a table.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from conformance.weighing.diagnosis import judge
from conformance.weighing.launch import read_steps

HERE = Path(__file__).parent
sys.path.append(str(HERE))
from ranks import run, task  # noqa: E402
from scripts import HEAD, SCRIPTS, Script  # noqa: E402

VARIANTS = ((2, {}), (1, {"OPTIMIZER": "adamw", "BF16": "1"}))
SAVED = """
torch.save(
    [
        [p.detach() for p in model.parameters()],
        [p.grad for p in model.parameters()],
        torch.get_rng_state(),
    ],
    os.path.join(os.environ["OUT"], f"end-{rank}.pt"),
)
"""
# What else a loop may do: draw, look at gradients, change them in hooks, clip, scale.
LIVELY = """
model.insert(2, nn.Dropout(0.3))
seen = []
model[1].weight.register_hook(lambda g: seen.append(float(g.sum())))
model[1].bias.register_hook(lambda g: g * 0.5)
model[4].register_full_backward_hook(lambda *_: seen.append(torch.rand(()).item()))
ddp = DDP(model, gradient_as_bucket_view=True, bucket_cap_mb=0.0001)
optimizer = make_optimizer(model.parameters())
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(STEPS):
    optimizer.zero_grad(set_to_none=False)
    for k, (ids, labels) in enumerate(micro_batches(step)):
        ddp.require_backward_grad_sync = k == K - 1
        loss = token_loss(ddp, ids, labels)
        seen.append(loss.item())
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()
model.seen = nn.Parameter(torch.tensor(seen, dtype=torch.float64))
"""
SHARDED = """
from torch.distributed.fsdp import fully_shard
for layer in model:
    if list(layer.parameters()):
        fully_shard(layer)
fully_shard(model)
optimizer = make_optimizer(model.parameters())
for step in range(STEPS):
    optimizer.zero_grad()
    for ids, labels in even(step):
        (token_loss(model, ids, labels) / K).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
"""
SHARDED_END = SAVED.replace("p.detach()", "p.detach().to_local()").replace(
    "p.grad for", "p.grad.to_local() for"
)
BODIES = {
    "lively": (LIVELY, SAVED),
    "sharded": (SHARDED, SHARDED_END),
    **{
        script.name: (script.right, SAVED)
        for script in SCRIPTS
        if script.name in ("micro-batch means averaged", "clipped before unscaling",
                           "past the wrapper", "boxes divided by the count of tokens")
    },
}  # fmt: skip


def weighed(folder, world, environment):
    tasks = [
        task(folder, f"{index}-{form}", HEAD + getattr(script, form), script.steps, environment)
        for index, script in enumerate(SCRIPTS)
        if script.least_world <= world
        for form in ("wrong", "right")
    ]
    run(folder, world, tasks)
    return folder


def verdicts(folder, script: Script, form):
    (out,) = folder.glob(f"{SCRIPTS.index(script)}-{form}")
    status = json.loads((out / "rank-0.json").read_text())
    assert not status["problems"]
    return judge(read_steps(out), script.promise)


# Each test starts the processes that it needs, and uses them for all that it promises: workers of
# pytest-xdist would start those of a shared fixture once each.
@pytest.mark.parametrize(("world", "environment"), VARIANTS, ids=str)
def test_mistakes_have_their_names_and_no_right_form_is_accused(world, environment, tmp_path):
    folder = weighed(tmp_path, world, environment)
    missed, accused, wide = [], [], []
    for script in SCRIPTS:
        if script.least_world > world:
            continue
        names = [name for verdict in verdicts(folder, script, "wrong") for name in verdict.names]
        if script.expects not in names:
            missed.append((script.name, script.expects, names))
        judged = verdicts(folder, script, "right")
        if not judged or any(v.is_fault or not v.is_weighed for v in judged):
            accused.append((script.name, [v.names for v in judged], [v.problems for v in judged]))
        wide += [
            (script.name, cell)
            for verdict in judged
            for term in verdict.terms
            for cell in term.cells
            if cell.high - cell.low > 0.01 * abs(cell.high)
        ]
    assert not missed
    assert not accused
    assert not wide


def test_parameters_gradients_and_random_state_are_the_same_bits_with_and_without(tmp_path):
    tasks = [
        task(tmp_path, f"{index}-{'with' if steps else 'without'}", HEAD + body + end, steps, {})
        for index, (body, end) in enumerate(BODIES.values())
        for steps in (99, 0)
    ]
    run(tmp_path, 2, tasks)
    for index, name in enumerate(BODIES):
        assert len(read_steps(tmp_path / f"{index}-with")) == 5, name
        for rank in (0, 1):
            with_, without = (
                torch.load(tmp_path / f"{index}-{kind}" / f"end-{rank}.pt")
                for kind in ("with", "without")
            )
            pairs = zip(*([*p, *g, state] for p, g, state in (with_, without)), strict=True)
            for ours, theirs in pairs:
                assert (ours is None) == (theirs is None), name
                assert ours is None or torch.equal(ours, theirs), name


def table(world, environment):
    """Weigh all scripts, and print what each is called."""
    with tempfile.TemporaryDirectory() as name:
        folder = weighed(Path(name), world, environment)
        bad = total = 0
        for script in SCRIPTS:
            if script.least_world > world:
                continue
            for form in ("wrong", "right"):
                judged = verdicts(folder, script, form)
                names = [n for verdict in judged for n in verdict.names]
                fine = (
                    script.expects in names if form == "wrong"
                    else not any(v.is_fault or not v.is_weighed for v in judged)
                )  # fmt: skip
                total, bad = total + 1, bad + (not fine)
                print("ok " if fine else "BAD", form, script.name, names)
        print(f"{bad} of {total} are not as they should be")


if __name__ == "__main__":
    table(int(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:]))
