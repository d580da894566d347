"""The ports of examples/ports, and small ones: the layer that parts, and the cause by name."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

from conformance.compare.compare import Compared, Settings, compare
from conformance.compare.load_model import side

EXAMPLES = Path(__file__).parents[2] / "examples" / "ports"
HERE = Path(__file__).parent
BLOCK = f"torch:{EXAMPLES / 'torch_block.py'}:block"


def compared(first: str, second: str, shape: tuple[int, ...], **settings: object) -> Compared:
    return compare((side(first), side(second)), Settings(inputs=(shape,), **settings))


def block(port: str, **settings: object) -> Compared:
    return compared(BLOCK, f"jax:{EXAMPLES / port}", (4, 6, 12, 12), **settings)


def small(first: str, second: str, shape: tuple[int, ...]) -> Compared:
    return compared(f"torch:{HERE}/originals.py:{first}", f"jax:{HERE}/ports.py:{second}", shape)


def told(found: Compared) -> list[tuple[str, str, str | None]]:
    return [(p.layer, p.aspect, p.cause.name if p.cause else None) for p in found.partings]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_right_port_agrees_forward_backward_and_in_its_statistics(seed):
    found = block("flax_block.py:block", seed=seed)
    assert told(found) == []
    assert [judged.compared for judged in found.judged] == [40, 40]
    assert all(not judged.unjudged for judged in found.judged)


def test_the_right_port_agrees_in_evaluation():
    assert told(block("flax_block.py:block", training=False)) == []


WRONG = {
    "same_padding": [("depthwise", "forward", "same-padding")],
    "tanh_gelu": [("act", "forward", "tanh-gelu"), ("act2", "forward", "tanh-gelu")],
    "keras_epsilon": [
        ("norm1", "forward", "default-epsilon"),
        ("norm2", "forward", "default-epsilon"),
    ],
    "swapped_momentum": [
        ("norm1", "running statistics", "batchnorm-momentum-swapped"),
        ("norm2", "running statistics", "batchnorm-momentum-swapped"),
    ],
    "kernel_not_transposed": [("hidden", "forward", "kernel-not-transposed")],
    "flattened_channels_last": [("flatten", "forward", "reinterpreted-layout")],
    "half_precision": [
        ("hidden", "forward", "reduced-precision-matmul"),
        ("act2", "forward", "reduced-precision"),
    ],
    "biased_variance": [
        ("norm1", "running statistics", "biased-running-variance"),
        ("norm2", "running statistics", "biased-running-variance"),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_port_parts_where_it_is_wrong_and_nowhere_else(name):
    assert told(block(f"wrong_ports.py:{name}")) == WRONG[name]


def test_every_wrong_port_of_the_examples_is_asked():
    lines = (EXAMPLES / "wrong_ports.py").read_text(encoding="utf-8").splitlines()
    assert [line[4:-16] for line in lines if line.startswith("def ")] == list(WRONG)


def test_an_nnx_port_agrees_but_for_the_variance_that_flax_keeps():
    found = block("nnx_block.py:block", allowed=frozenset({"biased-running-variance"}))
    assert told(found) == []
    assert [parting.layer for parting in found.allowed] == ["norm1", "norm2"]


def test_torch_is_held_to_flax_too():
    right = f"jax:{EXAMPLES / 'flax_block.py'}:block"
    assert told(compared(right, BLOCK, (4, 6, 12, 12))) == []
    wrong = f"jax:{EXAMPLES / 'wrong_ports.py'}:tanh_gelu"
    first, *_ = told(compared(wrong, BLOCK, (4, 6, 12, 12)))
    assert first == ("code before depthwise", "forward", "erf-gelu")


def test_functions_and_residuals_between_layers_are_found_without_modules():
    found = small("residual", "residual", (2, 4, 4, 4))
    assert told(found) == []
    assert all(not judged.unjudged for judged in found.judged)


def test_valid_padding_is_named_though_later_shapes_are_others():
    first, *_ = told(small("residual", "residual_valid", (2, 4, 5, 5)))
    assert first == ("first", "forward", "padding")


def test_another_activation_is_named_where_code_has_no_module():
    first, *_ = told(small("residual", "residual_gelu", (2, 4, 4, 4)))
    assert first == ("code before second", "forward", "activation")


def test_flax_s_default_epsilon_of_a_layer_norm_is_read_off_the_answer():
    found = small("normed", "flax_epsilon", (6, 5))
    assert told(found) == [("norm", "forward", "default-epsilon")]
    assert "1e-06 where 1e-05 is right" in found.partings[0].cause.words


def test_an_epsilon_that_is_no_default_is_read_off_too():
    found = small("normed", "odd_epsilon", (6, 5))
    assert told(found) == [("norm", "forward", "epsilon")]
    assert "0.00025" in found.partings[0].cause.words


def test_what_no_cause_gives_has_no_name_and_is_told_in_numbers():
    found = small("normed", "scaled", (6, 5))
    assert told(found)[0] == ("code before down", "forward", None)
    assert "times the bound" in found.partings[0].words


def test_a_gradient_that_is_stopped_parts_where_the_forward_agrees():
    found = small("normed", "stopped", (6, 5))
    assert told(found) == [("code after up", "gradient", None)]
    assert "all that came is zero" in found.partings[0].words


def test_a_gradient_that_both_stop_agrees_and_one_alone_parts():
    assert told(small("stopped", "stopped", (6, 5))) == []
    found = small("stopped", "normed", (6, 5))
    assert told(found) == [("code after up", "gradient", None)]
    assert "where the first model stops it" in found.partings[0].words


def test_a_layer_that_is_called_twice_has_one_gradient():
    assert told(small("twice", "twice", (3, 6))) == []


def test_a_call_too_many_is_told():
    found = small("twice", "thrice", (3, 6))
    assert "calls it 3 times, the first 2" in " ".join(p.words for p in found.partings)


def test_code_without_a_model_never_passes_in_silence():
    found = small("odd", "odd", (6, 5))
    assert "code before down: no known functions give it" in found.judged[0].unjudged
    assert told(found)[0] == ("code before down", "forward", None)
    assert "for this code no bound is known" in found.partings[0].words


def test_an_array_from_a_file_is_an_input(tmp_path):
    from conformance.compare.compare import read_input

    np.save(tmp_path / "x.npy", np.ones((3, 5), np.float32))
    array = read_input(str(tmp_path / "x.npy"))
    first, second = f"torch:{HERE}/originals.py:normed", f"jax:{HERE}/ports.py:normed"
    found = compare((side(first), side(second)), Settings(inputs=(array,)))
    assert found.judged[0].compared > 0
