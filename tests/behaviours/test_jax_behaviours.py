"""JAX does what its clauses say, and a JAX that did not would be noticed."""

import sys
import tomllib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from conformance.behaviours.jax import cases as jax_cases
from conformance.behaviours.model import answer
from conformance.core.ask import Ask
from conformance.core.comparison import difference
from conformance.core.implementations import own
from conformance.core.outcomes import Answer, Declined
from conformance.core.questions import BehaviourQuestion
from conformance.frameworks import is_installed
from conformance.processes import LocalWorld, Task

pytestmark = pytest.mark.skipif(not is_installed("jax"), reason="jax is not installed")

CASES = jax_cases.cases()
PRELOAD = ("jax", "conformance.subjects", "conformance.frameworks.jax.bridge")
CLAUSES = Path(__file__).parents[2] / "conformance" / "core" / "clauses"


@pytest.fixture(scope="module", autouse=True)
def _tasks_here_are_found_by_ranks():
    sys.path.append(str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def world():
    world = LocalWorld(PRELOAD, "conformance.frameworks:prepare_jax")
    yield world
    world.close()


def question(name):
    [found] = [case.question for case in CASES if case.name == name]
    return found


def ask_for(case_question, device="cpu"):
    implementation = next(one for one in own() if one.name == "jax_pmap")
    return Ask(implementation, case_question, {}, device)


def put(world, case_question, function="conformance.subjects:ask", broken="", device="cpu"):
    asked = ask_for(case_question, device)
    [outcome] = world.run(Task(function, (asked, broken) if broken else asked), 120)
    return outcome


def with_a_broken_jax(payload, rank):
    """A task: the question, with one function of JAX replaced by another."""
    import jax

    from conformance import subjects

    asked, broken = payload
    replacements = {
        "pmean is psum": (jax.lax, "pmean", jax.lax.psum),
        "pmean does nothing": (jax.lax, "pmean", lambda x, axis: x),
        "pcast does nothing": (jax.lax, "pcast", lambda x, axis, to: x),
        "checks are off": (jax, "shard_map", _unchecked(jax.shard_map)),
        "keys are not folded": (jax.random, "fold_in", lambda key, number: key),
        "nothing is donated": (jax, "jit", lambda f, **_: f),
        "x64 stays on": (jax, "enable_x64", lambda is_on: jax.default_device(jax.devices()[0])),
        "indivisible is accepted": (jax, "device_put", lambda x, *where: jax.numpy.asarray(x)),
    }
    with mock.patch.object(*replacements[broken]):
        return subjects.ask(asked, rank)


def _unchecked(shard_map):
    return lambda f, **settings: shard_map(f, **{**settings, "check_vma": False})


def settings(payload, rank):
    """A task: what a probe could leave behind."""
    import warnings

    import jax

    return (
        jax.config.jax_enable_x64,
        jax.numpy.asarray(np.zeros(1)).dtype.name,
        str(jax.config.jax_default_device),
        list(map(repr, warnings.filters)),
        len(jax.devices()),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_jax_does_what_the_model_of_it_says(world, case):
    outcome = put(world, case.question)
    assert isinstance(outcome, Answer), outcome
    assert difference(outcome.arrays, answer(case.question)) is None


def test_every_clause_has_a_case_and_every_case_a_clause():
    [file] = [*CLAUSES.glob("jax.toml"), *CLAUSES.glob("jax.toml.draft")]
    clauses = {entry["id"] for entry in tomllib.loads(file.read_text())["clause"]}
    assert {clause for case in CASES for clause in case.clauses} == clauses


def test_names_are_unique_and_every_case_is_asked_of_an_implementation_that_exists():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    known = {one.name for one in own() if one.operation == "gradient_mean"}
    for case in CASES:
        assert case.name.startswith("jax-")
        assert set(case.asked_of) <= known
        assert case.operation == "gradient_mean"


def test_probes_leave_the_process_as_they_found_it(world):
    task = Task("test_jax_behaviours:settings", None)
    [before] = world.run(task, 60)
    for name in ("jax-without-x64-f64", "jax-donated-in-vain", "jax-declared-replicated-w2"):
        put(world, question(name))
    assert world.run(task, 60) == [before]
    assert before[:2] == (True, "float64")


@pytest.mark.parametrize(
    "name", ["jax-without-x64-f64", "jax-without-x64-i64", "jax-without-x64-python-int"]
)
def test_x64_switched_off_is_x64_as_it_is_by_default(name):
    """J14 speaks of the default; the suite's own worlds have x64 on."""
    by_default = LocalWorld(PRELOAD)
    try:
        assert by_default.run(Task("test_jax_behaviours:settings", None), 60)[0][:2] == (
            False,
            "float32",
        )
        outcome = put(by_default, question(name), "conformance.behaviours.ask:answer")
    finally:
        by_default.close()
    assert difference(outcome.arrays, answer(question(name))) is None


def test_too_few_devices_are_said_in_numbers(world):
    outcome = put(world, BehaviourQuestion("jax_parallel.own_gradient", (("devices", 9),)))
    assert outcome == Declined("unsupported", "9 devices are asked for, 8 are here")


def test_a_platform_that_is_not_here_is_said(world):
    outcome = put(world, question("jax-own-gradient-w2"), device="tpu")
    assert outcome.status == "unsupported"
    assert outcome.reason.startswith("jax ")
    assert "has no tpu here" in outcome.reason


@pytest.mark.parametrize(
    ("broken", "name", "first_wrong"),
    [
        ("pmean is psum", "jax-averaged-in-every-mode-w4", "averaged-loss/pmap"),
        ("pmean is psum", "jax-pmean-is-psum-divided-w2", "pmap/operations"),
        ("pmean is psum", "jax-pmean-rounding-f32-w3", "pmap"),
        ("pmean does nothing", "jax-masked-shards-w2", "mean-of-masked-means/pmap"),
        ("pcast does nothing", "jax-averaged-in-every-mode-w3", "varying/checked"),
        ("checks are off", "jax-checked-gradient-w2", "gradient"),
        ("checks are off", "jax-declared-replicated-w4", "checked/raised"),
        ("keys are not folded", "jax-same-key-w3", "folded/pmap/different"),
        ("nothing is donated", "jax-donated-w2", "donated/deleted"),
        ("x64 stays on", "jax-without-x64-f64", "asarray"),
        ("indivisible is accepted", "jax-indivisible-batch-w4-n6", "device_put/raised"),
    ],
)
def test_a_broken_jax_is_noticed(world, broken, name, first_wrong):
    outcome = put(world, question(name), "test_jax_behaviours:with_a_broken_jax", broken)
    assert isinstance(outcome, Answer), outcome
    found = difference(outcome.arrays, answer(question(name)))
    assert found is not None
    assert found.name == first_wrong


def test_a_third_of_the_quotients_by_3_differ_and_none_by_a_power_of_two():
    """The figure of J4, over the numbers that its cases divide."""
    for dtype in ("f32", "f64"):
        by_three = answer(question(f"jax-pmean-rounding-{dtype}-w3"))
        assert 0.32 < by_three["unlike-quotient"] / 300 < 0.35
        assert answer(question(f"jax-pmean-rounding-{dtype}-w4"))["unlike-quotient"] == 0


@pytest.mark.parametrize("devices", jax_cases.WORLDS)
def test_the_data_tell_the_averages_apart(devices):
    """Of every two answers that a clause distinguishes, the data make two."""
    masked = answer(question(f"jax-masked-shards-w{devices}"))
    averages = [masked[f"{name}/pmap"][0].tolist() for name in _AVERAGES]
    assert len({tuple(average) for average in averages}) == 3
    own_ = jax_cases.multiples(devices)
    mean = own_.mean(axis=0)
    reduced = [own_[0], mean, devices * mean, devices**2 * mean, devices * own_[0]]
    assert len({tuple(one.tolist()) for one in reduced}) >= 4
    assert not np.array_equal(own_[0], mean)


_AVERAGES = ("sums-over-counts", "mean-of-masked-means", "mean-of-plain-means")
