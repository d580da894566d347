"""Ports of examples/ports, and small ones: right ones agree, wrong ones part by name."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

from conformance.compare.compare import Compared, compare
from conformance.compare.load_model import side
from conformance.compare.settings import Settings, read_inputs

EXAMPLES = Path(__file__).parents[2] / "examples" / "ports"
HERE = Path(__file__).parent
BLOCK = f"torch:{EXAMPLES / 'torch_block.py'}:block"


def compared(first: str, second: str, shape: object, **settings: object) -> Compared:
    return compare((side(first), side(second)), Settings(inputs={0: shape}, **settings))


def block(port: str, **settings: object) -> Compared:
    return compared(BLOCK, f"jax:{EXAMPLES / port}", (4, 6, 12, 12), **settings)


def small(first: str, second: str, shape: tuple[int, ...]) -> Compared:
    return compared(f"torch:{HERE}/originals.py:{first}", f"jax:{HERE}/ports.py:{second}", shape)


def said(result: Compared) -> list[tuple[str, str, str | None]]:
    return [(p.layer, p.aspect, p.cause.name if p.cause else None) for p in result.partings]


def test_the_right_block_agrees_forward_backward_and_in_its_statistics():
    result = block("flax_block.py:block")
    assert said(result) == []
    assert result.unjudged == ()
    # Two modes; ten parameters, one input; two norms with two statistics each.
    assert result.compared == {"forward": 2, "gradient": 22, "running statistics": 8}


WRONG_BLOCKS = {
    "same_padding": [("depthwise", "forward", "same-padding")],
    "tanh_gelu": [("act", "forward", "tanh-gelu"), ("act2", "forward", "tanh-gelu")],
    "keras_epsilon": [
        ("norm1", "forward", "default-epsilon"),
        ("norm2", "forward", "default-epsilon"),
    ],
    "swapped_momentum": [
        ("norm1", "running statistics", "batchnorm-momentum-swapped"),
        ("norm1", "running statistics", "batchnorm-momentum-swapped"),
        ("norm2", "running statistics", "batchnorm-momentum-swapped"),
    ],
    "kernel_not_transposed": [("hidden", "forward", "kernel-not-transposed")],
    "flattened_channels_last": [("flatten", "forward", "reinterpreted-layout")],
    "half_precision": [("hidden", "forward", "reduced-precision-matmul")],
    "biased_variance": [
        ("norm1", "running statistics", "biased-running-variance"),
        ("norm2", "running statistics", "biased-running-variance"),
    ],
}


@pytest.mark.parametrize("name", WRONG_BLOCKS)
def test_a_wrong_block_parts_where_it_is_wrong_and_nowhere_else(name):
    assert set(said(block(f"wrong_ports.py:{name}"))) == set(WRONG_BLOCKS[name])


def test_every_wrong_block_of_the_examples_is_asked():
    lines = (EXAMPLES / "wrong_ports.py").read_text(encoding="utf-8").splitlines()
    assert [line[4:-16] for line in lines if line.startswith("def ")] == list(WRONG_BLOCKS)


def in_tables():
    """The ports of every table, by the table's folder and their own names."""
    for folder in (EXAMPLES, HERE / "kinds", HERE / "causes"):
        table = tomllib.loads((folder / "ports.toml").read_text(encoding="utf-8"))
        for port in table["port"]:
            if "wrong_ports.py" not in port["second"]:  # Those are asked in full above.
                yield pytest.param(folder, port, id=port["name"])


@pytest.mark.parametrize(("folder", "port"), list(in_tables()))
def test_a_port_of_a_table_is_what_it_says(folder, port, monkeypatch):
    monkeypatch.chdir(folder)
    inputs = port["input"] if isinstance(port["input"], list) else [port["input"]]
    settings = Settings(inputs=read_inputs(inputs), allowed=frozenset(port.get("allow", [])))
    result = compare((side(port["first"]), side(port["second"])), settings)
    if "at" not in port:
        assert said(result) == []
        assert result.unjudged == ()
    else:
        layer, aspect, cause = said(result)[0]
        assert (layer in port["at"], aspect, cause in port["cause"]) == (True, "forward", True)


@pytest.mark.parametrize(
    ("model", "how", "layer", "causes"),
    [
        ("attention", "unmasked_unscaled", "code before out", {"attention-scale", "causal-mask"}),
        ("scored", "two", "code before gate", {"default-epsilon", "tanh-gelu"}),
    ],
)
def test_of_two_changes_at_one_place_both_are_told(model, how, layer, causes):
    shape = (5, 6) if model == "scored" else (2, 5, 8)
    sides = (
        side(f"torch:{HERE}/causes/torch_causes.py:{model}"),
        side(f"jax:{HERE}/causes/jax_causes.py:{model}_{how}"),
    )
    inputs = dict.fromkeys(range(1 + (model == "attention")), shape)
    found = said(compare(sides, Settings(inputs=inputs, modes=(True,))))
    assert {(place, cause) for place, _, cause in found} == {(layer, cause) for cause in causes}


def kinds(first: str, second: str, *inputs: str) -> Compared:
    sides = (
        side(f"torch:{HERE}/kinds/torch_more.py:{first}"),
        side(f"jax:{HERE}/kinds/jax_more.py:{second}"),
    )
    paths = [f"{HERE}/kinds/{x}" if x.endswith(".npy") else x for x in inputs]
    return compare(sides, Settings(inputs=read_inputs(paths)))


def test_the_row_of_padding_is_told_where_the_table_is_tied():
    assert said(kinds("tied", "tied_padding", "ids.npy")) == [
        ("word", "gradient", "padding-row-gradient"),
    ]  # fmt: skip


def test_a_mistake_is_found_though_the_errors_behind_it_have_no_end():
    first, second = (f"{HERE}/kinds/{name}_sequences.py" for name in ("torch", "jax"))
    allowed = frozenset({"biased-running-variance"})
    settings = {"modes": (True,), "allowed": allowed}
    result = compared(f"torch:{first}:deep", f"jax:{second}:deep_tanh", (8, 6), **settings)
    assert said(result) == [("0.2", "forward", "tanh-gelu")]


def test_what_is_done_later_is_not_told_as_left_out_and_nothing_behind_it_is_accused():
    ((_, aspect, cause),) = said(kinds("post", "post_first", "4,6"))
    assert (aspect, cause) == ("forward", "order-of-steps")


def test_an_nnx_port_agrees_but_for_the_variance_that_flax_keeps():
    result = block("nnx_block.py:block", allowed=frozenset({"biased-running-variance"}))
    assert said(result) == []
    assert {p.cause.name for p in result.allowed if p.cause} == {"biased-running-variance"}


def test_a_torch_port_of_a_flax_model_is_compared_the_other_way_round():
    right = f"jax:{EXAMPLES / 'flax_block.py'}:block"
    assert said(compared(right, BLOCK, (4, 6, 12, 12))) == []
    wrong = f"jax:{EXAMPLES / 'wrong_ports.py'}:tanh_gelu"
    assert said(compared(wrong, BLOCK, (4, 6, 12, 12)))[0][:2] == (
        "code before depthwise", "forward",
    )  # fmt: skip


def test_functions_and_residuals_without_modules_are_right():
    assert said(small("residual", "residual", (2, 4, 4, 4))) == []


def test_valid_padding_is_named_though_later_shapes_are_others():
    assert said(small("residual", "residual_valid", (2, 4, 5, 5)))[0] == (
        "first", "forward", "padding",
    )  # fmt: skip


def test_another_activation_is_named_where_code_has_no_module():
    assert said(small("residual", "residual_gelu", (2, 4, 4, 4)))[0] == (
        "code before second", "forward", "activation",
    )  # fmt: skip


def test_a_bound_that_no_usual_value_reaches_is_asked_all_the_same():
    assert said(small("bounded", "bounded", (5, 6))) == []
    assert said(small("bounded", "unbounded", (5, 6))) == [("act", "forward", "activation")]


def test_outputs_of_other_shapes_are_told_by_their_cause():
    (parting,) = small("grown", "grown_less", (2, 3, 4, 4)).partings
    assert parting.cause is not None
    assert parting.cause.name == "padding"


def test_an_epsilon_is_read_off_the_answer():
    result = small("normed", "flax_epsilon", (6, 5))
    assert said(result) == [("norm", "forward", "default-epsilon")]
    assert "1e-06" in result.partings[0].cause.words


def test_what_no_cause_gives_has_no_name_and_is_told_in_numbers():
    result = small("normed", "scaled", (6, 5))
    assert [row[1:] for row in said(result)] == [("forward", None)]
    assert "outside the bound" in result.partings[0].words


def test_a_gradient_that_is_stopped_parts_where_the_forward_agrees():
    result = small("normed", "stopped", (6, 5))
    assert said(result) == [("code after up", "gradient", "gradient-stopped")]


def test_a_gradient_that_both_stop_agrees():
    assert said(small("stopped", "stopped", (6, 5))) == []


def test_a_layer_that_is_called_twice_has_one_gradient():
    assert said(small("twice", "twice", (3, 6))) == []


def test_an_array_from_a_file_is_an_input(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 5), np.float32))
    inputs = read_inputs([str(tmp_path / "x.npy")])
    first, second = f"torch:{HERE}/originals.py:normed", f"jax:{HERE}/ports.py:normed"
    assert compare((side(first), side(second)), Settings(inputs=inputs)).partings == ()
