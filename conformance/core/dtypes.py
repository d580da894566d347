"""The element types that cross between NumPy, torch and JAX, and how each is carried in NumPy.

Every array of the suite is a NumPy array whose bytes are the element's own bytes. Where NumPy has
no such type (torch's `complex32` and `quint8`), an unsigned integer of the same width carries it.
"""

from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

Kind = Literal["float", "complex", "integer", "bool", "quantized"]


@dataclass(frozen=True)
class Dtype:
    """One element type.

    `name` is the suite's name (`f32`), `carrier` the NumPy dtype that holds the bytes, `stored` the
    safetensors name and `parts` how many stored numbers make one element (2 for complex).
    """

    name: str
    kind: Kind
    carrier: np.dtype
    stored: str
    torch: str
    jax: str | None
    parts: int = 1

    @property
    def bits(self) -> int:
        """Returns the bits of one element."""
        return self.carrier.itemsize * 8


def _table() -> dict[str, Dtype]:
    float8 = np.dtype(ml_dtypes.float8_e4m3fn)
    rows: list[Dtype] = [
        Dtype("f64", "float", np.dtype("f8"), "F64", "float64", "float64"),
        Dtype("f32", "float", np.dtype("f4"), "F32", "float32", "float32"),
        Dtype("f16", "float", np.dtype("f2"), "F16", "float16", "float16"),
        Dtype("bf16", "float", np.dtype(ml_dtypes.bfloat16), "BF16", "bfloat16", "bfloat16"),
        Dtype("f8e4m3fn", "float", float8, "F8_E4M3", "float8_e4m3fn", "float8_e4m3fn"),
        Dtype("i64", "integer", np.dtype("i8"), "I64", "int64", "int64"),
        Dtype("i32", "integer", np.dtype("i4"), "I32", "int32", "int32"),
        Dtype("i16", "integer", np.dtype("i2"), "I16", "int16", "int16"),
        Dtype("i8", "integer", np.dtype("i1"), "I8", "int8", "int8"),
        Dtype("u32", "integer", np.dtype("u4"), "U32", "uint32", "uint32"),
        Dtype("u16", "integer", np.dtype("u2"), "U16", "uint16", "uint16"),
        Dtype("u8", "integer", np.dtype("u1"), "U8", "uint8", "uint8"),
        Dtype("bool", "bool", np.dtype("?"), "BOOL", "bool", "bool"),
        Dtype("c128", "complex", np.dtype("c16"), "F64", "complex128", "complex128", parts=2),
        Dtype("c64", "complex", np.dtype("c8"), "F32", "complex64", "complex64", parts=2),
        Dtype("c32", "complex", np.dtype("u4"), "F16", "complex32", None, parts=2),
        Dtype("quint8", "quantized", np.dtype("u1"), "U8", "quint8", None),
    ]
    return {row.name: row for row in rows}


DTYPES = _table()


def of_numpy(dtype: np.dtype) -> Dtype:
    """Returns the `Dtype` whose carrier is this NumPy dtype (never `c32` or `quint8`).

    >>> of_numpy(np.dtype("float32")).name
    'f32'

    Raises:
        KeyError: if the suite has no such type.
    """
    for row in DTYPES.values():
        if row.carrier == dtype and row.jax is not None:
            return row
    raise KeyError(f"no dtype of the suite is carried by NumPy's {dtype}")


def bits_of(array: np.ndarray) -> np.ndarray:
    """Returns the bits as unsigned integers of the same width and shape (complex128: pairs).

    >>> bits_of(np.array([-0.0], dtype=np.float32))
    array([2147483648], dtype=uint32)
    """
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    width = contiguous.dtype.itemsize
    if width == 16:
        return contiguous.view(np.uint64).reshape(*array.shape, 2)
    return contiguous.view(np.dtype(f"u{width}"))


def text(words: str) -> np.ndarray:
    """Returns a text as an array of u8, its bytes in UTF-8: goldens hold a text in this form.

    >>> bytes(text("rank 0")).decode()
    'rank 0'
    """
    return np.frombuffer(words.encode(), dtype=np.uint8)
