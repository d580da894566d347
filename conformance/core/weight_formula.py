"""Weight formulas as people write them: what an item counts for, over n, N_rank, N, W and K."""

import ast
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction

from conformance.core.outcomes import UsageError

# What people write, and the symbols that weighing prints.
SYMBOLS: Mapping[str, str] = {
    "n": "n_rk", "n_rk": "n_rk", "N_rank": "n_r", "n_r": "n_r", "n_k": "n_k", "N": "N", "W": "W",
    "K": "K",
}  # fmt: skip
_MOST_POWER = 3
_SIGNS = str.maketrans({"·": "*", "×": "*", "⋅": "*"})


def powers_of(text: str) -> tuple[dict[str, int], Fraction]:
    """Return a formula's powers of counts, and its factor.

    Args:
        text: a product and quotient of n (items of the micro-batch on its rank), N_rank (items of
            the rank in the step), n_k (items of the micro-batches k of all ranks), N (items of the
            step), W (ranks), K (micro-batches of a rank) and whole numbers.

    Raises:
        UsageError: in one line, if it is anything else.

    >>> powers_of("1/(W*K*n)")
    ({'W': -1, 'K': -1, 'n_rk': -1}, Fraction(1, 1))
    """
    try:
        tree = ast.parse(text.translate(_SIGNS), mode="eval").body
        powers, factor = _read(tree)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError) as error:
        said = f" ({error})" if isinstance(error, ValueError) and str(error) else ""
        raise UsageError(
            f"{text!r} is no weight formula{said}: write a product or quotient of "
            "n, N_rank, N, W and K, as in '1/(W*K*n)'"
        ) from None
    if factor <= 0 or any(abs(e) > _MOST_POWER for e in powers.values()):
        raise UsageError(f"{text!r} is no weight formula: its factor or a power is out of bounds")
    return {symbol: e for symbol, e in powers.items() if e}, factor


def _read(node: ast.expr) -> tuple[dict[str, int], Fraction]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return {}, Fraction(node.value)
    if isinstance(node, ast.Name):
        if node.id not in SYMBOLS:
            raise ValueError(f"{node.id} is none of {', '.join(SYMBOLS)}")
        return {SYMBOLS[node.id]: 1}, Fraction(1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        (left, a), (right, b) = _read(node.left), _read(node.right)
        sign = 1 if isinstance(node.op, ast.Mult) else -1
        powers: dict[str, int] = defaultdict(int, left)
        for symbol, exponent in right.items():
            powers[symbol] += sign * exponent
        return dict(powers), a * b if sign > 0 else a / b
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        inner, factor = _read(node.left)
        if isinstance(node.right, ast.Constant) and node.right.value in range(1, _MOST_POWER + 1):
            times = int(str(node.right.value))
            return {symbol: e * times for symbol, e in inner.items()}, factor**times
    raise ValueError(f"{ast.unparse(node)} is no product")
