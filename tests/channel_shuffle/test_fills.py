import numpy as np
import pytest

from conformance.channel_shuffle.fills import FILLS
from conformance.core.dtypes import DTYPES, bits_of

WIDE = ["f64", "f32", "i64", "i32", "u32", "c64", "c128"]


@pytest.mark.parametrize("dtype", WIDE)
def test_identity_gives_every_element_a_value_of_its_own(dtype):
    values = FILLS["identity"]((3, 12, 6, 9), DTYPES[dtype], "input")
    assert len(np.unique(values)) == values.size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", ["identity", "full-width"])
def test_roles_hold_different_values(dtype, fill):
    first, second = (FILLS[fill]((2, 12, 2, 5), DTYPES[dtype], r) for r in ("input", "cotangent"))
    assert first.dtype == second.dtype == DTYPES[dtype].carrier
    assert (bits_of(first) != bits_of(second)).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_tells_every_two_channels_apart(dtype):
    values = bits_of(FILLS["identity"]((2, 12, 2, 5), DTYPES[dtype], "input"))
    channels = [channel.tobytes() for channel in np.moveaxis(values, 1, 0)]
    assert len(set(channels)) == len(channels)


@pytest.mark.parametrize(
    ("dtype", "narrower"), [("f64", "f32"), ("f32", "bf16"), ("f32", "f16"), ("i64", "i32")]
)
def test_no_full_width_number_survives_a_narrower_type(dtype, narrower):
    values = FILLS["full-width"]((2, 12, 5), DTYPES[dtype], "input")
    detour = values.astype(DTYPES[narrower].carrier).astype(values.dtype)
    assert (values != detour).all()


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16", "c64", "c128"])
def test_special_fills_hold_what_they_say_with_both_signs(dtype):
    def parts(fill):
        values = FILLS[fill]((2, 12, 5), DTYPES[dtype], "input").reshape(-1)
        return values.view(values.real.dtype) if values.dtype.kind == "c" else values

    for fill in ("quiet-nans", "signalling-nans"):
        with np.errstate(invalid="ignore"):
            assert np.isnan(parts(fill)).all()
        assert set(np.signbit(parts(fill))) == {True, False}
    quiet_bit = {"f64": 51, "c128": 51, "f32": 22, "c64": 22, "f16": 9, "bf16": 6}[dtype]
    assert (bits_of(parts("quiet-nans")) >> quiet_bit & 1).all()
    assert not (bits_of(parts("signalling-nans")) >> quiet_bit & 1).any()
    assert len(np.unique(bits_of(parts("quiet-nans")))) > 4, "payloads differ"
    assert np.isinf(parts("infinities")).any()
    assert (np.signbit(parts("zeros")) & (parts("zeros") == 0)).any()


def test_neighbouring_channels_differ_in_every_special_fill():
    for fill in ("zeros", "infinities", "subnormals", "quiet-nans", "signalling-nans"):
        bits = bits_of(FILLS[fill]((2, 12, 5), DTYPES["f32"], "input"))
        assert (bits[:, 1:] != bits[:, :-1]).any(axis=(0, 2)).all(), fill


def test_photographs_want_twelve_channels():
    with pytest.raises(ValueError, match="12 channels"):
        FILLS["photographs"]((2, 9, 8, 8), DTYPES["u8"], "input")
