"""The mechanical changes of an expression or a statement, one change at a time."""

import ast
from collections.abc import Collection, Iterator, Sequence

Replaced = tuple[str, ast.expr]
Rewritten = tuple[str, list[ast.stmt]]

_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def expressions(node: ast.expr, modules: Collection[str] = ()) -> Iterator[Replaced]:
    """Yields every change of an expression, by its kind.

    Args:
        node: the expression.
        modules: names of modules, which no value can replace.

    >>> [(kind, ast.unparse(new)) for kind, new in expressions(ast.parse("n // g").body[0].value)]
    [('factor', 'n * g'), ('order', 'g // n')]
    """
    match node:
        case ast.Constant(value=bool() as value):
            yield "sign", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield "axis or number", ast.Constant(value + 1)
            yield "axis or number", ast.Constant(value - 1)
        case ast.Constant(value=float() as value):
            yield "factor", ast.Constant(2 * value)
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield "sign", operand
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in _ARITHMETIC:
                yield "factor", ast.BinOp(left, _ARITHMETIC[type(op)](), right)
            if isinstance(op, ast.Sub | ast.FloorDiv | ast.Div | ast.Mod | ast.MatMult):
                yield "order", ast.BinOp(right, op, left)
        case ast.Compare(left=left, ops=[op], comparators=right):
            yield "condition", ast.Compare(left, [_COMPARISONS[type(op)]()], right)
        case ast.IfExp(body=body, orelse=orelse):
            yield "condition", body
            yield "condition", orelse
        case ast.Tuple(elts=items, ctx=ast.Load()) | ast.List(elts=items, ctx=ast.Load()):
            for swapped in _swapped(items):
                yield "order", type(node)(swapped, ast.Load())
        case ast.Slice() | ast.Subscript(ctx=ast.Store()):
            return
        case ast.Subscript(value=value, slice=ast.Slice()):
            yield "omitted step", value
        case ast.Call():
            yield from _calls(node, modules)


def _calls(node: ast.Call, modules: Collection[str]) -> Iterator[Replaced]:
    plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    if len(plain) == len(node.args):
        for swapped in _swapped(node.args):
            yield "order", ast.Call(node.func, swapped, node.keywords)
    for omitted in node.keywords:
        remaining = [keyword for keyword in node.keywords if keyword is not omitted]
        yield "omitted step", ast.Call(node.func, node.args, remaining)
    if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value, modules):
        yield "omitted step", node.func.value
    if plain:
        yield "omitted step", plain[0]


def _is_module(node: ast.expr, modules: Collection[str]) -> bool:
    return ast.unparse(node).partition(".")[0] in modules


def _swapped(items: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    """Yields the items with two neighbours exchanged, where these differ."""
    for i in range(len(items) - 1):
        if ast.dump(items[i]) != ast.dump(items[i + 1]):
            yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def statements(node: ast.stmt, conditions: Sequence[str]) -> Iterator[Rewritten]:
    r"""Yields every change of a statement, by its kind.

    Args:
        node: the statement.
        conditions: the source of conditions under which alone a mutant takes the step.

    >>> [ast.unparse(new[0]) for _, new in statements(ast.parse("x /= n").body[0], ["n > 2"])]
    ['pass', 'if n > 2:\n    x /= n', 'x *= n']
    """
    match node:
        case ast.Expr(value=ast.Constant()):
            # This is a docstring.
            return
        case ast.Expr() | ast.AugAssign():
            yield "omitted step", [ast.Pass()]
            for condition in conditions:
                yield "on a condition", [_only_if(condition, node)]
        case ast.If(body=body, orelse=orelse):
            yield "condition", [*body]
            yield "condition", [*orelse] or [ast.Pass()]
        case ast.With(body=body):
            yield "omitted step", [*body]
        case ast.For(body=body, target=target, iter=over):
            first = ast.Subscript(ast.Call(ast.Name("list", ast.Load()), [over], []), _head())
            yield "omitted step", [ast.For(target, first, body, [])]
    if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        op = ast.Mult() if isinstance(node.op, ast.Div) else _ARITHMETIC[type(node.op)]()
        yield "factor", [ast.AugAssign(node.target, op, node.value)]


def _head() -> ast.Slice:
    return ast.Slice(upper=ast.Constant(1))


def _only_if(condition: str, node: ast.stmt) -> ast.If:
    return ast.If(ast.parse(condition, mode="eval").body, [node], [])


def guards(conditions: Sequence[str], instead: str) -> Iterator[Rewritten]:
    """Yields early returns on a condition, to stand before all other statements."""
    for condition in conditions:
        yield "on a condition", ast.parse(f"if {condition}:\n    return {instead}").body
