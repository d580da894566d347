"""Mutants: one change each, in what runs, that compiles to something else."""

import ast
import inspect
from pathlib import Path

import pytest

from conformance.core.implementations import function_of, own
from conformance.proofs.mutants.generation import mutants, put_beside
from conformance.run.adapters import gather

SIBLINGS = [one for one in own() if one.name in ("numpy_reshape", "numpy_definition")]


@pytest.fixture
def declared(adapter):
    """The implementation of an adapter file."""

    def gathered(body):
        path = adapter(body)
        [one] = [one for one in gather([str(path)]) if one.origin == str(path)]
        return one

    return gathered


SHUFFLE = """
@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x: np.ndarray, groups: int = 1 - 0) -> np.ndarray:
    \"\"\"Words that do not run: 2.\"\"\"
    n, c, *s = x.shape
    return x.reshape(n, groups, c // groups, *s).swapaxes(1, 2).reshape(x.shape)
"""


def words_of(found):
    return {mutant.words for mutant in found}


def test_a_change_of_axis_factor_order_and_an_omitted_step_are_made(declared):
    found = words_of(mutants(declared(SHUFFLE)))
    parts = "x.reshape(n, groups, c // groups, *s)"
    assert {
        "1 → 2",
        "2 → 1",
        "2 → 3",
        "c // groups → c * groups",
        "c // groups → groups // c",
    } <= found
    assert f"{parts}.swapaxes(1, 2) → {parts}" in found
    assert "if x.shape[0] > 2: return x" in found


def test_what_does_not_run_is_not_changed(declared):
    found = mutants(declared(SHUFFLE))
    assert not any("Words" in mutant.words or "ndarray" in mutant.words for mutant in found)
    assert not any("conformance" in mutant.words for mutant in found)


@pytest.mark.parametrize("one", SIBLINGS, ids=lambda one: one.name)
def test_no_two_mutants_are_the_same_and_none_is_the_original(one):
    found = mutants(one)
    sources = {ast.dump(ast.parse(mutant.source)) for mutant in found}
    assert len(sources) == len(found) > 20
    assert ast.dump(ast.parse(inspect.cleandoc(Path(one.origin).read_text()))) not in sources


def test_a_step_of_a_rank_may_depend_on_its_rank_and_the_world(declared):
    found = mutants(
        declared(
            """
@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def mine(model, loss, batches, group):
    for p in model.parameters():
        p.grad /= group.size()
"""
        )
    )
    told = words_of(found)
    assert "p.grad /= group.size() → pass" in told
    assert "p.grad /= group.size() → p.grad *= group.size()" in told
    assert any("if group.rank() != 1: p.grad /= group.size()" in words for words in told)


def test_a_mutant_that_is_written_can_be_asked(declared, tmp_path):
    [mutant] = [m for m in mutants(declared(SHUFFLE)) if m.words == "c // groups → groups // c"]
    assert callable(function_of(mutant.written(tmp_path, 0)))


def test_a_function_of_one_line_has_guards_too(declared):
    one_line = SHUFFLE.partition('    """')[0] + "    return x.copy()\n"
    assert "if x.shape[0] > 2: return x" in words_of(mutants(declared(one_line)))


LAMBDA = """
conformance.implementation("channel_shuffle", framework="numpy", name="mine")(lambda x, groups: x)
"""


@pytest.mark.parametrize(
    ("body", "named", "words"),
    [
        (LAMBDA, "mine.py", "mine.py: mine: nothing can be changed"),
        (SHUFFLE, "mine", "mine is a module, and files are changed: --adapter FILE.py"),
    ],
)
def test_what_cannot_be_changed_is_said_in_one_line(adapter, cli, body, named, words):
    adapter(body)
    done = cli("mutants", "--adapter", named)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"conformance: {words}")
    assert len(done.stderr.splitlines()) == 1


def test_a_mutant_finds_what_lies_beside_its_file_and_writes_over_none_of_it(
    adapter, declared, tmp_path
):
    beside = adapter("", "mine_7.py")
    text = beside.read_text()
    [mutant, *_] = mutants(declared(f"import mine_7\n{SHUFFLE}"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    put_beside(mutant.implementation, folder)
    assert callable(function_of(mutant.written(folder, 7)))
    assert callable(function_of(mutant.written(folder, 8)))
    assert beside.read_text() == text
