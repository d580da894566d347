"""What cannot be told is never a pass, and never an accusation."""

from dataclasses import replace

import numpy as np

from conformance.weighing.diagnosis import judge
from conformance.weighing.records import Part, Pass, Solved, Step, Term
from conformance.weighing.steps import Products, parts
from conformance.weighing.text import lines


def step(values=(0.5, 0.5), counts=(3, 5), number=1, **more):
    half = [None if value is None else 1e-6 for value in values]
    solved = Solved(list(values), half, 1e-8, 1e-6, 2.0, 1.0, **more)
    passes = [
        Pass(rank, 0, [Term("mse_loss", count, 2 / sum(counts), 1e-6)], digest=str(rank))
        for rank, count in enumerate(counts)
    ]
    return Step(number, "SGD 1", 2, passes, [Part(["w"], 10, [solved])])


def test_a_step_whose_weights_are_known_conforms():
    (verdict,) = judge([step()], "step_mean")
    assert verdict.is_weighed
    assert not verdict.is_fault


def test_a_step_whose_passes_depend_on_each_other_is_not_weighed():
    (verdict,) = judge([step((None, None))], "step_mean")
    assert not verdict.is_weighed
    assert not verdict.is_fault
    assert "0/0, 1/0 cannot be told" in "\n".join(lines([verdict], "train.py", "step_mean"))


def test_another_step_may_be_weighed_where_one_is_not():
    (verdict,) = judge([step((None, None)), step(number=2)], "step_mean")
    assert verdict.is_weighed
    assert not verdict.is_fault


def test_the_same_data_on_two_ranks_is_told_and_no_pass():
    (verdict,) = judge([step(counts=(3, 3), alike=[[0, 1]])], "step_mean")
    assert not verdict.is_weighed
    assert not verdict.is_fault
    assert "only the sum of their weights is known" in "\n".join(lines([verdict], "a.py", None))


def test_ranks_that_hold_different_gradients_are_named():
    wrong = step()
    own = [replace(wrong.parts[0].by_rank[0], values=v) for v in ([1.0, 0.0], [0.0, 1.0])]
    (verdict,) = judge([replace(wrong, parts=[Part(["w"], 10, own)])], None)
    assert verdict.names == ("never-synchronised",)


def test_experts_of_their_own_on_each_rank_are_told_and_no_mistake():
    one = step()
    own = [replace(one.parts[0].by_rank[0], values=v) for v in ([1.0, 0.0], [0.0, 1.0])]
    apart = replace(one, parts=[*one.parts, Part(["expert.weight"], 4, own)])
    (verdict,) = judge([apart], "step_mean")
    assert verdict.names == ("partly-synchronised",)
    sent = [replace(each, couples="_AllToAllSingle") for each in one.passes]
    (verdict,) = judge([replace(apart, passes=sent)], "step_mean")
    assert not verdict.is_fault
    assert "as to experts" in "\n".join(lines([verdict], "train.py", "step_mean"))


def test_a_loss_inside_a_compiled_function_is_not_judged_and_says_what_to_do():
    (first, second) = step().passes
    passes = [replace(p, terms=[Term("CompiledFunction", None, 1.0)]) for p in (first, second)]
    (verdict,) = judge([replace(step(), passes=passes)], "step_mean")
    assert not verdict.is_weighed
    assert "TORCH_COMPILE_DISABLE=1" in "\n".join(lines([verdict], "train.py", "step_mean"))


def test_parameters_are_one_part_also_where_columns_depend_on_each_other():
    random = np.random.default_rng(0)
    grams = []
    for size in (40, 30, 7):
        columns = random.normal(size=(size, 4)).astype(np.float32).astype(float)
        columns[:, 3] = columns[:, 0] + columns[:, 1]
        vectors = np.column_stack([columns, columns @ [0.5, 0.5, 0.5, 0.5]])
        grams.append(vectors.T @ vectors)
    products = Products(
        np.array(grams), np.zeros((3, 1), bool), ["a", "b", "c"], [40, 30, 7], 4, [4], 4, 2.0**-24
    )
    (part,) = parts(products)
    assert part.parameters == ["a", "b", "c"]
    assert [value is None for value in part.by_rank[0].values] == [True, True, False, True]


def test_parameters_that_were_scaled_apart_are_parts_of_their_own():
    random = np.random.default_rng(0)
    grams = []
    for scale in (1.0, 3.0):
        columns = random.normal(size=(50, 2)).astype(np.float32).astype(float)
        vectors = np.column_stack([columns, scale * columns.sum(axis=1) / 2])
        grams.append(vectors.T @ vectors)
    products = Products(
        np.array(grams), np.zeros((2, 1), bool), ["a", "b"], [50, 50], 2, [2], 2, 2.0**-24
    )
    assert [part.parameters for part in parts(products)] == [["a"], ["b"]]
