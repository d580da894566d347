"""A question about averaged gradients reaches an implementation, and what it holds comes back."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import torch

from conformance.core import implementations as registry
from conformance.core.ask import Ask
from conformance.core.declarations import USUAL
from conformance.core.dtypes import bits_of
from conformance.core.outcomes import Answer, Declined, Raised, UsageError
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.models import model_of
from conformance.gradient_mean.torch_models import Loss, build, tensor
from conformance.processes import LocalWorld, Task, TorchRanks, verdict_rank

CPU = torch.device("cpu")
OWN = {
    i.name: i
    for i in registry.own()
    if i.operation == "gradient_mean"
    and i.runs != "virtual"  # those are in test_virtual_ask
    and i.held_to in USUAL["gradient_mean"]  # the others are in test_step_ask
    and i.clip == "none"  # who clips is in test_group_cases
}
# DDP leaves gradients unaveraged where a parameter takes no part in the loss (D16).
MINDS_UNUSED = {
    name
    for name in OWN
    if name.startswith("torch_ddp")
    and name not in ("torch_ddp_find_unused", "torch_ddp_static_graph", "torch_ddp_sync_batch_norm")
} | {"torch_replicate"}
UNIT = 48  # what residuals are multiples of: all counts here divide it


@pytest.fixture(scope="module")
def ask():
    """Asks an implementation a question in its world; all ranks' outcomes."""
    worlds = {
        "ranks": TorchRanks(4, "conformance.frameworks:prepare_torch"),
        "torch": LocalWorld((), "conformance.frameworks:prepare_torch"),
        "jax": LocalWorld((), "conformance.frameworks:prepare_jax"),
        "numpy": LocalWorld((), "conformance.frameworks:prepare_numpy"),
    }

    def put(implementation, question, inputs=None):
        per_rank = implementation.runs == "per_rank"
        world = worlds["ranks" if per_rank else implementation.framework]
        asked = Ask(implementation, question, inputs or made(question), "cpu")
        ranks = question.world_size if per_rank else 1
        return world.run(Task("conformance.subjects:ask", asked, ranks), 60)

    yield put
    for world in worlds.values():
        world.close()


@pytest.fixture
def adapter(tmp_path):
    """The implementation of a body, of the arguments that its framework's hand over."""

    def written(body, framework="torch", runs="one_process", promise="rank_mean"):
        arguments = {
            "torch": ("model", "loss", "batches", "group" if runs == "per_rank" else "devices"),
            "jax": ("loss", "params", "batches", "devices"),
            "numpy": ("model", "loss", "batches", "devices"),
        }[framework]
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        # Worlds load a file once.
        file = tmp_path / f"mine_{len(list(tmp_path.iterdir()))}.py"
        file.write_text(
            "import conformance\nimport numpy as np\n"
            f"@conformance.implementation('gradient_mean', framework='{framework}', "
            f"runs='{runs}', promise='{promise}')\n"
            f"def mine({', '.join(arguments)}):\n{lines}\n"
        )
        (declared,) = registry.adapter(str(file))
        return declared

    return written


def made(question, seed=1):
    """Small integers, and targets at a multiple of UNIT from the outputs: nothing rounds."""
    model, random = model_of(question), np.random.default_rng(seed)
    inputs = {
        f"parameter/{name}": random.integers(-2, 3, shape).astype(float)
        for name, shape in model.parameters().items()
    }
    for name, shape in model.buffers().items():  # a variance of 3/4, since epsilon is 1/4
        inputs[f"buffer/{name}"] = np.full(shape, 0.75 if name.endswith("var") else 1.0)
    module = build(model, inputs, CPU)
    for k, shards in enumerate(question.shards):
        n = sum(shards)
        x = random.integers(-3, 4, (n, *model.sample)).astype(float)
        if model.tokens:
            x = random.integers(0, 8, (n, *model.sample))
        inputs[f"inputs/{k}"] = x
        outputs = module(tensor(x, CPU))
        several = isinstance(outputs, tuple)
        for head, output in enumerate(outputs if several else (outputs,)):
            name = f"targets/{k}/{head}" if several else f"targets/{k}"
            y = output.detach().numpy()
            inputs[name] = y - UNIT * random.integers(-1, 2, y.shape)
    carrier = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
    return {
        name: array.astype(carrier[question.dtype]) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def expected(question, inputs, promise):
    """The promise from its definition, in float64."""
    model, ranks = model_of(question), range(question.world_size)
    wide = {n: a if a.dtype.kind == "i" else a.astype(float) for n, a in inputs.items()}
    start = {n: a for n, a in wide.items() if n.startswith(("parameter/", "buffer/"))}
    heads = len(model.heads)

    def gradient(slices):
        module = build(model, start, CPU)
        for k, chosen in enumerate(slices):
            x = tensor(wide[f"inputs/{k}"][chosen], CPU)
            names = [f"targets/{k}/{h}" for h in range(heads)] or [f"targets/{k}"]
            y = tuple(tensor(wide[name][chosen], CPU) for name in names)
            if len(x):
                loss = Loss(question.loss, question.reduction)
                loss(module(x), y if heads else y[0]).backward()
        return {
            name: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
            for name, p in module.named_parameters()
        }

    if promise == "sample_mean":
        total = gradient([slice(None)] * question.micro_batches)
    else:
        each = [
            gradient([slice(sum(s[:r]), sum(s[: r + 1])) for s in question.shards]) for r in ranks
        ]
        total = {name: sum(g[name] for g in each) for name in each[0]}
        if promise == "rank_mean":
            total = {name: g / question.world_size for name, g in total.items()}
    if question.observe == "step":
        return {f"parameter/{n}": start[f"parameter/{n}"] - g / 2 for n, g in total.items()}
    return {f"gradient/{n}": g for n, g in total.items()}


def check(question, implementation, outcomes, inputs):
    right = expected(question, inputs, implementation.promise)
    for outcome in outcomes:
        assert isinstance(outcome, Answer), outcome
        assert list(outcome.arrays) == list(right)
        for name, array in right.items():
            given = outcome.arrays[name]
            assert given.dtype == next(iter(inputs.values())).dtype
            np.testing.assert_array_equal(given.astype(float), array, err_msg=name)


def reason(outcomes):
    outcome = outcomes[verdict_rank(outcomes)]
    return outcome.reason if isinstance(outcome, Declined) else outcome.message


QUESTIONS = {
    "everything-at-once": GradientQuestion(
        "two_heads", ((1, 3), (3, 1)), starts="different", observe="step"
    ),
    "no-samples": GradientQuestion("mlp", ((1, 0), (0, 1))),
    "tied": GradientQuestion("tied", ((2, 2),)),
    "unused": GradientQuestion("unused", ((2, 2),)),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("name", OWN)
def test_every_implementation_keeps_its_promise(ask, name, question):
    implementation, inputs = OWN[name], made(question)
    outcomes = ask(implementation, question, inputs)
    if isinstance(outcomes[0], Declined):
        assert outcomes[0].status == "not-exercised"
        assert name in ("torch_data_parallel", "torch_data_parallel_loss_inside")
    elif question.model == "unused" and name in MINDS_UNUSED:
        assert isinstance(outcomes[0], Answer)  # wrong, as D16 says
    else:
        check(question, implementation, outcomes, inputs)


FEW = [
    "torch_manual_all_reduce",
    "torch_weighted_all_reduce",
    "torch_rank_sum",
    "torch_module",
    "jax_pcast",
    "jax_one_device",
]


@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16"])
@pytest.mark.parametrize("name", FEW)
def test_every_dtype_is_asked(ask, name, dtype):
    question = GradientQuestion("linear", ((2, 2),), dtype=dtype)
    inputs = made(question)
    check(question, OWN[name], ask(OWN[name], question, inputs), inputs)


@pytest.mark.parametrize("model", ["convnet", "max_pool", "frozen_norm", "frozen"])
@pytest.mark.parametrize("name", FEW)
def test_every_kind_of_layer_is_asked(ask, name, model):
    question = GradientQuestion(model, ((1, 2, 4, 1), (2, 4, 1, 1)))
    inputs = made(question)
    check(question, OWN[name], ask(OWN[name], question, inputs), inputs)


def test_three_ranks_and_a_summed_loss(ask):
    question = GradientQuestion("mlp", ((4, 1, 1),), reduction="sum")
    inputs = made(question)
    for name in ("torch_manual_all_reduce", "torch_rank_sum", "jax_pcast", "jax_psum_sum"):
        check(question, OWN[name], ask(OWN[name], question, inputs), inputs)


def test_ranks_that_start_apart_are_apart(ask, adapter):
    question = GradientQuestion("frozen_norm", ((2, 2),), starts="different", observe="step")
    inputs = made(question)
    zero, one = ask(adapter("pass", runs="per_rank"), question, inputs)
    for name, array in zero.arrays.items():
        np.testing.assert_array_equal(array, inputs[name])
        np.testing.assert_array_equal(one.arrays[name], inputs[name] + 1)


def test_gradients_that_are_none_are_zero(ask, adapter):
    question = GradientQuestion("mlp", ((2, 2),))
    for runs in ("per_rank", "one_process"):
        for outcome in ask(adapter("pass", runs=runs), question):
            for array in outcome.arrays.values():
                assert not bits_of(array).any()
                assert array.dtype == np.float32


def test_data_parallel_that_passes_through_is_noticed(ask, adapter):
    body = (
        "import torch\n"
        "class Mine(torch.nn.DataParallel):\n"
        "    pass\n"
        "parallel = Mine(model)\n"
        "for x, y in batches:\n"
        "    loss(parallel(x), y).backward()"
    )
    mine = adapter(body, promise="sample_mean")
    [outcome] = ask(mine, GradientQuestion("mlp", ((2, 2),)))
    assert isinstance(outcome, Declined)
    assert outcome.status == "not-exercised"
    assert "passed the whole batch through" in outcome.reason
    question = GradientQuestion("mlp", ((2,),))
    inputs = made(question)
    check(question, mine, ask(mine, question, inputs), inputs)  # there is nothing to share out


def test_chunks_that_are_not_the_ranks_shares_are_noticed(ask):
    name = "torch_data_parallel_loss_inside"
    question = GradientQuestion("mlp", ((2, 2, 1),))
    inputs = made(question)
    assert isinstance(ask(OWN[name], question, inputs)[0], Answer)
    outcomes = ask(OWN[name], GradientQuestion("mlp", ((1, 3),)))
    assert reason(outcomes) == "whole batches are cut into 2, 2 samples; the case asks for 1, 3"


def test_more_ranks_than_devices(ask):
    question = GradientQuestion("linear", ((1,) * 9,))
    [answer] = ask(OWN["jax_one_device"], question)
    assert isinstance(answer, Answer), "one device is enough for it"
    for name in ("jax_pmap", "jax_shard_map"):
        [outcome] = ask(OWN[name], question)
        assert outcome == Declined("unsupported", "9 devices are asked for, 8 are here")


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ({"framework": "numpy"}, "declare runs='virtual'"),
        ({"framework": "jax", "runs": "per_rank"}, "declare runs='one_process' or 'virtual'"),
    ],
)
def test_who_is_not_asked_is_told_when_it_is_declared(adapter, words, right):
    with pytest.raises(UsageError, match=right):
        adapter("pass", **words)


WRONG_IN_JAX = {
    "return None": "gave NoneType, not a dict of gradients like params",
    "return list(params.values())": "gave list, not a dict of gradients like params",
    "return {'only.bias': params['only.bias']}": "gave no gradient of only.weight",
    "return {**params, 'more': 1}": "gave a gradient of 'more', which is no parameter",
    "return {n: np.asarray(p) for n, p in params.items()}": (
        "gradient only.weight is ndarray, not a concrete jax.Array"
    ),
    "return {n: p[None].repeat(4, 0) for n, p in params.items()}": (
        "gradient only.weight has shape (4, 2, 4), expected (2, 4): one per rank?"
    ),
    "return {n: p.T for n, p in params.items()}": (
        "gradient only.weight has shape (4, 2), expected (2, 4)"
    ),
    "return {n: p.astype('bfloat16') for n, p in params.items()}": (
        "gradient only.weight has dtype bfloat16, expected float32"
    ),
    "import jax\nreturn jax.device_put(params, jax.devices()[7])": (
        "gradient only.weight is on cpu:7, which it was not given"
    ),
}
UNEQUAL_COPIES = """import jax
from jax.sharding import Mesh, PartitionSpec as P
mesh = Mesh(devices, ('r',))
def mine(params):
    r = jax.lax.axis_index('r')
    return {n: p + (r == 3) for n, p in params.items()}
return jax.shard_map(mine, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)(params)"""


@pytest.mark.parametrize("body", WRONG_IN_JAX)
def test_what_jax_gives_back_is_named(ask, adapter, body):
    question = GradientQuestion("linear", ((2, 2, 2, 2),))
    [outcome] = ask(adapter(body, framework="jax"), question)
    assert isinstance(outcome, Raised), outcome
    assert (outcome.type, outcome.message) == ("WrongAnswer", WRONG_IN_JAX[body])


def test_copies_that_differ_come_with_the_first_devices_values(ask, adapter):
    question = GradientQuestion("linear", ((2, 2, 2, 2),))
    [outcome] = ask(adapter(UNEQUAL_COPIES, framework="jax"), question)
    assert outcome.flaw == "device 0 and device 3 hold different values of only.weight"
    assert set(outcome.arrays) == {"gradient/only.weight", "gradient/only.bias"}


WRONG_IN_TORCH = {
    "del model.only": "parameter only.weight is not in the model any more",
    "model.only = torch.nn.Linear(4, 3)": "parameter only.weight has shape (3, 4), expected (2, 4)",
    "model.to('meta')": "parameter only.weight is on meta, not on cpu",
    (
        "from torch.distributed.tensor import distribute_module\n"
        "from torch.distributed.device_mesh import DeviceMesh\n"
        "distribute_module(model, DeviceMesh.from_group(group, 'cpu'))"
    ): "parameter only.weight is a DTensor: its whole is to be in the model",
}


@pytest.mark.parametrize("body", WRONG_IN_TORCH)
def test_what_torch_leaves_in_the_model_is_named(ask, adapter, body):
    question = GradientQuestion("linear", ((2, 2),))
    outcomes = ask(adapter(f"import torch\n{body}", runs="per_rank"), question)
    for outcome in outcomes:
        assert isinstance(outcome, Raised), outcome
        assert (outcome.type, outcome.message) == ("WrongAnswer", WRONG_IN_TORCH[body])


def test_a_dtype_that_the_framework_refuses_is_unsupported(ask, adapter):
    body = "raise RuntimeError('\"addmm\" not implemented for \\'Half\\'')"
    for dtype, kind in (("f16", Declined), ("f32", Raised)):
        [outcome] = ask(adapter(body), GradientQuestion("linear", ((2, 2),), dtype=dtype))
        assert isinstance(outcome, kind)
    body = "raise RuntimeError('something else')"
    [outcome] = ask(adapter(body), GradientQuestion("linear", ((2, 2),), dtype="f16"))
    assert isinstance(outcome, Raised)
