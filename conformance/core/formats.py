"""The formats of floating point, and how many of their bits a device keeps."""

from dataclasses import dataclass

# A row holds the bits of the significand, and the exponents of the smallest and largest normals.
FORMATS = {
    "f64": (53, -1022, 1023),
    "f32": (24, -126, 127),
    "f16": (11, -14, 15),
    "bf16": (8, -126, 127),
}


@dataclass(frozen=True)
class Bits:
    """How many bits a product of matrices keeps of its factors, and of the sums of products.

    >>> Bits(11, 24).fewest(Bits(24, 24)), str(Bits(11, 24))
    (Bits(factors=11, sums=24), '11 (sums 24)')
    """

    factors: int
    sums: int

    def fewest(self, other: "Bits") -> "Bits":
        """Returns the bits that both keep."""
        return Bits(min(self.factors, other.factors), min(self.sums, other.sums))

    def __str__(self) -> str:
        return (
            f"{self.factors}" if self.factors == self.sums else f"{self.factors} (sums {self.sums})"
        )
