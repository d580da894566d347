"""Random bits that are the same on every machine: SHA-256 in counter mode, never a generator.

A generator's stream may change between versions of NumPy; a hash does not.
"""

import hashlib


def random_bits(label: str, count: int) -> bytes:
    """Returns `count` bytes of SHA-256(label, 0) ‖ SHA-256(label, 1) ‖ … and so on.

    >>> random_bits("example", 4).hex()
    '99169554'
    """
    blocks = (
        hashlib.sha256(f"{label}/{index}".encode()).digest() for index in range(-(-count // 32))
    )
    return b"".join(blocks)[:count]
