"""How many bits a product of matrices keeps is measured, whatever the settings promise."""

import numpy as np
import pytest

from conformance.core.dtypes import DTYPES
from conformance.core.formats import Bits
from conformance.frameworks import bridge, is_installed, precision
from conformance.frameworks.precision import SIGNIFICANDS, measure


def cut(values, bits, how=np.trunc):
    """Numbers of so many bits, as a multiplier takes them: cut off, or rounded."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(how(mantissa * 2.0**bits), exponent - bits).astype(values.dtype)


@pytest.mark.parametrize("bits", [11, 8, 2, 23])
@pytest.mark.parametrize("how", [np.trunc, np.rint])
@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_factors_of_fewer_bits_are_seen(bits, how, sides):
    def matmul(a, b):
        a = a if sides == "right" else cut(a, bits, how)
        b = b if sides == "left" else cut(b, bits, how)
        return a @ b

    assert measure(matmul, "f32") == Bits(factors=bits, sums=24)


@pytest.mark.parametrize("bits", [11, 8])
def test_sums_of_fewer_bits_are_seen_and_the_fewest_count(bits):
    found = measure(lambda a, b: cut(a @ b, bits), "f32")
    assert found == Bits(bits, bits)
    only_sums = measure(lambda a, b: a @ b if is_identity(a, b) else cut(a @ b, bits), "f32")
    assert only_sums == Bits(factors=24, sums=bits)
    assert str(only_sums) == f"24 (sums {bits})"


def is_identity(*matrices):
    return any(np.array_equal(one, np.eye(len(one))) for one in matrices)


def test_three_products_of_bfloat16_are_told_from_one():
    """XLA's `high` adds products of parts: 16 bits, where one product keeps 8."""

    def three(a, b):
        high, other = (cut(x, 8) for x in (a, b))
        low, rest = cut(a - high, 8), cut(b - other, 8)
        return high @ other + high @ rest + low @ other

    assert measure(three, "f32").factors == 16


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_cpu_keeps_every_bit(framework):
    if not is_installed(framework):
        pytest.skip(f"{framework} is not installed")
    here = bridge(framework)
    here.prepare()
    found = here.describe()
    assert found.matmul_bits["cpu"] == {name: Bits(n, n) for name, n in SIGNIFICANDS.items()}
    assert found.precision[f"matmul_bits {framework} cpu"] == "f64 53, f32 24, f16 11, bf16 8"


def test_a_dtype_that_a_device_cannot_multiply_is_told_and_the_others_are_measured():
    def matmul_of(dtype):
        def matmul(a, b):
            if dtype == "f64":
                raise RuntimeError("no f64 here")
            return (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype)

        return matmul

    kept = {"mps": precision.measured(matmul_of)}
    assert set(precision.only_measured(kept)["mps"]) == {"f32", "f16", "bf16"}
    told = precision.words("torch", kept)["matmul_bits torch mps"]
    assert told == "f64 not measured (RuntimeError), f32 24, f16 11, bf16 8"


@pytest.mark.parametrize("dtype", SIGNIFICANDS)
def test_a_product_that_is_wrong_altogether_keeps_nothing(dtype):
    assert measure(lambda a, b: np.zeros_like(a), dtype) == Bits(1, 1)
    assert DTYPES[dtype].kind == "float"
