"""A declared function fits its contract, or one line says which parameter is wrong."""

import ast
import functools
import inspect

import pytest

import conformance
from conformance.core import signatures
from conformance.core.contract import (
    CONTRACTS,
    ChannelShuffle,
    JaxOneProcess,
    TorchOneProcess,
    TorchPerRank,
    names_of,
)
from conformance.core.implementations import FRAMEWORKS, PROMISES, RUNS, declared_in, own
from conformance.core.outcomes import UsageError


def shuffle(**words):
    return conformance.implementation("channel_shuffle", **{"framework": "numpy", **words})


def average(**words):
    return conformance.implementation("gradient_mean", **{"framework": "torch", **words})


def refusal(declare, function):
    with pytest.raises(UsageError) as caught:
        declare(function)
    words = str(caught.value)
    assert "\n" not in words
    assert __file__ in words
    return words


def test_every_implementation_of_the_suite_has_a_contract():
    for declared in own():
        assert (declared.operation, declared.framework, declared.runs) in CONTRACTS


def test_the_table_names_what_the_decorator_takes():
    for operation, framework, runs in CONTRACTS:
        assert operation in PROMISES
        assert framework in FRAMEWORKS
        assert runs in RUNS


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        CONTRACTS["channel_shuffle", "torch", "per_rank"] = ChannelShuffle


# What would be handed other things than its names say


def test_a_name_at_another_s_place_is_refused_with_what_to_write():
    def swapped(groups, x):
        return x

    assert refusal(shuffle(), swapped).endswith(
        "swapped: parameter 1 is 'groups' and must be 'x': write def swapped(x, groups)"
    )


def test_one_name_at_the_wrong_place_is_enough():
    def mine(model, batches, loss, group): ...

    words = refusal(average(runs="per_rank"), mine)
    assert "parameter 2 is 'batches' and must be 'loss'" in words
    assert "write def mine(model, loss, batches, group)" in words


@pytest.mark.parametrize(
    ("declare", "parameters", "words"),
    [
        (average(), "model, loss, batches, group", "'group' and must be 'devices'"),
        (average(), "model, loss, batches, group", "framework='torch', runs='per_rank'"),
        (average(runs="per_rank"), "model, loss, batches, devices", "must be 'group'"),
        (average(framework="jax"), "model, loss, batches, devices", "'model' and must be 'loss'"),
        (average(), "loss, params, batches, devices", "declare framework='jax'"),
        (shuffle(), "model, loss, batches, group", "'model' and must be 'x'"),
        # Of names of one's own, the one that is another contract's tells.
        (average(), "model, criterion, loader, pg", "framework='torch', runs='per_rank'"),
        (average(), "net, loss_fn, data, process_group", "framework='torch', runs='per_rank'"),
        (average(), "m, l, d, process_group", "4 is 'process_group' and must be 'devices'"),
        (average(runs="per_rank"), "model, criterion, data, devices", "runs='one_process'"),
    ],
)
def test_parameters_that_are_another_contract_s_are_said_to_be(declare, parameters, words):
    scope = {}
    exec(compile(f"def mine({parameters}): ...", __file__, "exec"), scope)
    assert words in refusal(declare, scope["mine"])


@pytest.mark.parametrize("parameters", ["x, axis=1, groups=2", "x, axis, groups=2"])
def test_a_name_behind_those_that_are_handed_over_is_refused(parameters):
    scope = {}
    exec(compile(f"def mine({parameters}): ...", __file__, "exec"), scope)
    words = "parameter 2 is 'axis' and must be 'groups': write def mine(x, groups)"
    assert words in refusal(shuffle(), scope["mine"])


@pytest.mark.parametrize(
    "parameters", ["x", "", "x, groups, more", "x, groups, *, more", "x, *, count", "*, x"]
)
def test_what_cannot_be_called_is_refused_with_what_to_write(parameters):
    scope = {}
    exec(compile(f"def mine({parameters}): ...", __file__, "exec"), scope)
    assert "cannot be called with (x, groups)" in refusal(shuffle(), scope["mine"])
    assert refusal(shuffle(), scope["mine"]).endswith("write def mine(x, groups)")


# Right code


@pytest.mark.parametrize(
    "parameters",
    [
        "x, groups",
        "x, groups=1",
        "x, groups, more=0",
        "x, groups, *, more=0",
        "x, groups, *rest, **others",
        "x, groups, /",
        "images, g",
        "x, num_groups",
        "x, *, groups",
        "x, *, groups=1",
        "*, groups, x",
        "*args",
        "*args, **kwargs",
        "x, *rest",
    ],
)
def test_whatever_can_be_called_is_taken_and_called(parameters):
    scope = {}
    exec(compile(f"def mine({parameters}): return sorted(locals())", __file__, "exec"), scope)
    assert shuffle()(scope["mine"]) is scope["mine"]
    assert signatures.called_by_position(ChannelShuffle, scope["mine"])("x", 2)


@pytest.mark.parametrize("names", ["a, b, c, d", "net, criterion, data, pg", "m, loss, batches, g"])
def test_names_of_one_s_own_are_right(names):
    scope = {}
    exec(f"def mine({names}): ...", scope)
    assert average(runs="per_rank")(scope["mine"]) is scope["mine"]


def test_what_is_taken_by_keyword_only_is_handed_over_by_keyword():
    def mine(x, *, groups):
        return x, groups

    shuffle()(mine)
    assert signatures.called_by_position(ChannelShuffle, mine)("x", 2) == ("x", 2)


def test_what_takes_its_arguments_by_position_is_not_wrapped():
    def mine(x, groups): ...

    assert signatures.called_by_position(ChannelShuffle, mine) is mine


def test_a_part_of_a_function_is_taken_and_called():
    def general(x, axis, groups):
        return x, axis, groups

    bound = functools.partial(general, axis=1)  # groups can be handed over by keyword alone
    assert shuffle(name="mine")(bound) is bound
    assert signatures.called_by_position(ChannelShuffle, bound)("x", 2) == ("x", 1, 2)


def test_a_callable_without_a_name_is_asked_for_one():
    with pytest.raises(UsageError, match="give one, name=…"):
        shuffle()(functools.partial(lambda x, groups: x))


def test_a_wrapper_is_known_by_its_own_parameters_and_not_by_what_it_wraps():
    def seeded(function):
        @functools.wraps(function)
        def called(x, groups):
            return function(0, x, groups)

        return called

    @seeded
    def mine(groups, x, seed):  # another order, which the wrapper alone knows
        return x

    shuffle()(mine)
    assert signatures.called_by_position(ChannelShuffle, mine) is mine


class Callable:
    def __call__(self, x, groups):
        return x


class Backwards:
    def __call__(self, groups, x):
        return x


class Method:
    def shuffle(self, x, groups):
        return x


def test_objects_that_can_be_called_are_known_by_their_call():
    shuffle(name="mine")(Callable())
    shuffle()(Method().shuffle)
    with pytest.raises(UsageError, match="'groups' and must be 'x'"):
        shuffle(name="mine")(Backwards())


def test_a_callable_without_a_signature_is_believed():
    shuffle(name="mine")(dict.fromkeys)
    shuffle(name="mine")(max)


def test_a_jitted_function_is_known_by_what_it_jits():
    jax = pytest.importorskip("jax")

    def mine(x, groups):
        return x

    shuffle(framework="jax")(jax.jit(mine, static_argnames="groups"))

    def by_keyword(x, *, groups):
        return x

    jitted = jax.jit(by_keyword, static_argnames="groups")
    shuffle(framework="jax")(jitted)
    assert signatures.called_by_position(ChannelShuffle, jitted)(3, 1) == 3

    def swapped(groups, x):
        return x

    assert "'groups' and must be 'x'" in refusal(shuffle(framework="jax"), jax.jit(swapped))


def test_a_jitted_wrapper_is_not_taken_for_what_it_wraps():
    jax = pytest.importorskip("jax")

    def backwards(groups, x):
        return x

    @functools.wraps(backwards)
    def mine(x, groups):
        return backwards(groups, x)

    jitted = jax.jit(mine)
    shuffle(framework="jax")(jitted)
    assert signatures.called_by_position(ChannelShuffle, jitted)(3, 1) == 3


def test_torch_s_modules_and_compiled_functions_are_taken():
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):
        def forward(self, x, groups):
            return x

    shuffle(framework="torch", name="mine")(Module())
    shuffle(framework="torch", name="mine")(torch.compile(lambda x, groups: x))


def test_what_nothing_asks_is_refused_with_what_is_asked():
    def mine(loss, params, batches, devices): ...

    words = refusal(average(framework="jax", runs="per_rank"), mine)
    assert words.endswith("declare runs='one_process' or 'virtual'")
    assert refusal(shuffle(runs="per_rank"), mine).endswith("declare runs='one_process'")


# What is no answer when it is called


class Made:
    def __init__(self, x, groups): ...


async def awaited(x, groups): ...


async def awaited_piece_by_piece(x, groups):
    yield x


def yielding(x, groups):
    yield x


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (Made, "Made: is a class: write def Made(x, groups), which makes an object and calls it"),
        (awaited, "awaited: is async, and nothing awaits it: write def awaited(x, groups)"),
        (awaited_piece_by_piece, "is async, and nothing awaits it"),
        (yielding, "yielding: yields, and must return: write def yielding(x, groups)"),
        (classmethod(yielding), "is a classmethod and no function: write def yielding(x, groups)"),
    ],
)
def test_what_gives_no_answer_when_it_is_called_is_refused(function, words):
    assert words in refusal(shuffle(), function)


def test_what_is_no_function_is_refused_where_it_is_declared():
    assert "mine: is an int and no function: write def mine(x" in refusal(shuffle(name="mine"), 3)


def test_a_loop_that_yields_is_told_of_steps():
    def mine(model, loss, batches, group):
        yield

    words = refusal(average(runs="per_rank"), mine)
    assert words.endswith("or declare steps='several': write def mine(model, loss, windows, group)")

    def several(model, loss, windows, group):
        yield

    assert average(runs="per_rank", steps="several")(several) is several


def test_a_signature_is_written_for_what_has_no_name():
    assert refusal(shuffle(name="mine"), lambda x: x).endswith("write def mine(x, groups)")


# By the syntax tree


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, groups): ...",
        "def f(x, groups=1, *, more=0, **others): ...",
        "def f(x, /, groups, *rest): ...",
        "def f(x, *, groups): ...",
        "def f(x, *, groups=2, more): ...",
        "def f(): ...",
    ],
)
def test_a_signature_that_is_read_is_the_one_that_runs(source):
    scope = {}
    exec(source, scope)

    def kinds(signature):
        return [
            (p.name, p.kind.name.replace("ONLY", "OR_KEYWORD") * (p.kind < 2) or p.kind.name,
             p.default is p.empty)
            for p in signature.parameters.values()
        ]  # fmt: skip

    written = signatures.written_signature(ast.parse(source).body[0])
    assert kinds(written) == kinds(inspect.signature(scope["f"]))


HEAD = 'import conformance\n@conformance.implementation("channel_shuffle", framework="numpy")\n'


def test_a_file_that_is_read_is_verified_as_one_that_runs(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + "def mine(groups, x): ...\n")
    with pytest.raises(UsageError, match=r"mine\.py:2: mine: parameter 1 is 'groups'"):
        declared_in(file)


def test_what_a_decorator_between_makes_of_a_function_is_not_guessed(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + "@turned_round\ndef mine(groups, x): ...\n")
    assert [declared.name for declared in declared_in(file)] == ["mine"]


def test_the_suite_s_own_files_have_the_contract_s_names(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + "def mine(images, groups): ...\n")
    assert len(declared_in(file)) == 1
    with pytest.raises(UsageError, match="'images' and must be 'x': write def mine"):
        declared_in(file, exact=True)


def test_the_names_of_the_contracts():
    assert names_of(TorchPerRank) == ("model", "loss", "batches", "group")
    assert names_of(TorchOneProcess) == ("model", "loss", "batches", "devices")
    assert names_of(JaxOneProcess) == ("loss", "params", "batches", "devices")
