"""Every dtype and layout crosses between NumPy and the frameworks bit for bit."""

import numpy as np
import pytest

from conformance.channel_shuffle.fills import FILLS
from conformance.core.dtypes import DTYPES, bits_of
from conformance.core.outcomes import NotExercised, Unsupported, WrongAnswer
from conformance.frameworks import bridge, is_installed
from conformance.frameworks.layouts import laid_out

LAYOUTS = ["contiguous", "channels_last", "transposed", "sliced", "expanded", "negative"]
SHAPE = (2, 12, 3, 5)


@pytest.fixture(params=["numpy", "torch", "jax"])
def here(request):
    if not is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    found = bridge(request.param)
    found.prepare()
    return found


@pytest.mark.parametrize("fill", ["full-width", "arbitrary-bits"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_cross_and_come_back(here, dtype, fill):
    if fill == "arbitrary-bits" and dtype == "bool":
        fill = "identity"
    values = FILLS[fill](SHAPE, DTYPES[dtype], "input")
    try:
        array = here.array(values, DTYPES[dtype], "contiguous", "cpu")
    except Unsupported as reason:
        assert DTYPES[dtype].jax is None, reason
        return
    back = here.values(array, "cpu")
    assert back.dtype == values.dtype
    assert np.array_equal(bits_of(back), bits_of(values))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_do_not_depend_on_how_they_lie(here, layout):
    values = FILLS["identity"](SHAPE, DTYPES["f32"], "input")
    if layout == "expanded":
        values = np.broadcast_to(values[:1], SHAPE).copy()
    try:
        array = here.array(values, DTYPES["f32"], layout, "cpu")
    except Unsupported as reason:
        assert "strides" in str(reason)
        return
    assert np.array_equal(here.values(array, "cpu"), values)
    steps = tuple(step // 4 for step in laid_out(values, layout).strides)
    if layout == "contiguous":
        return
    assert here.strides(array) == steps, "the layout was really asked"


def test_an_array_is_the_frameworks_own_memory(here):
    values = np.zeros(3, dtype="f4")
    array = here.array(values, DTYPES["f32"], "contiguous", "cpu")
    values[:] = 1
    assert (here.values(array, "cpu") == 0).all()


def test_what_is_no_array_is_a_wrong_answer(here):
    for given in (None, [1.0], "x", 1.0):
        with pytest.raises(WrongAnswer, match="gave"):
            here.values(given, "cpu")


def test_grouped_convolution_is_exact_on_small_integers(here):
    from conformance.channel_shuffle.definition import grouped_pointwise

    x = FILLS["small-integers"]((2, 6, 2, 3), DTYPES["f32"], "input")
    kernel = FILLS["small-integers"]((6, 3, 1, 1), DTYPES["f32"], "cotangent")
    arrays = (here.array(a, DTYPES["f32"], "contiguous", "cpu") for a in (x, kernel))
    given = here.values(here.grouped_pointwise(*arrays, 2), "cpu")
    assert np.array_equal(given, grouped_pointwise(x, kernel, 2))


def test_derivatives_of_a_cube_are_right_and_missing_ones_say_so(here):
    values = np.array([1.0, 2.0, -3.0])
    x, ones, twos = (
        here.array(a, DTYPES["f64"], "contiguous", "cpu")
        for a in (values, np.ones(3), np.full(3, 2.0))
    )
    try:
        y, pulled = here.vjp(lambda x: x**3, x, ones)
    except Unsupported as reason:
        assert str(reason) == "numpy has no derivatives"
        return
    assert np.array_equal(here.values(y, "cpu"), values**3)
    assert np.array_equal(here.values(pulled, "cpu"), 3 * values**2)
    _, pushed = here.jvp(lambda x: x**3, x, twos)
    assert np.array_equal(here.values(pushed, "cpu"), 6 * values**2)
    _, pulled, twice = here.double(lambda x: x**3, x, ones, twos)
    assert np.array_equal(here.values(pulled, "cpu"), 3 * values**2)
    assert np.array_equal(here.values(twice, "cpu"), 6 * values**2)


def test_shared_memory_is_seen_where_there_is_any_to_see(here):
    x = here.array(np.arange(6.0).reshape(2, 3), DTYPES["f64"], "contiguous", "cpu")
    try:
        assert here.shares_memory(x, x.reshape(3, 2))
        assert not here.shares_memory(x, x + 0)
    except NotExercised as reason:
        assert "immutable" in str(reason)


def test_64_bit_types_are_on_in_jax():
    pytest.importorskip("jax")
    found = bridge("jax")
    found.prepare()
    assert found.describe().precision["jax_enable_x64"] == "True"


def test_every_bridge_has_every_function():
    from conformance.frameworks import Bridge

    wanted = {name for name in vars(Bridge) if not name.startswith("_")}
    for framework in ("numpy", "torch", "jax"):
        if is_installed(framework):
            assert wanted <= set(vars(bridge(framework))), framework


def test_torch_modules_are_asked_in_both_modes():
    torch = pytest.importorskip("torch")
    found = bridge("torch")
    x = torch.ones(2, 4, 3)
    with pytest.raises(NotExercised):
        found.in_both_modes(lambda x: x * 2, x)
    evaluated, trained, entries = found.in_both_modes(torch.nn.BatchNorm1d(4), x)
    assert entries > 0
    assert not torch.equal(evaluated, trained)
