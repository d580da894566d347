"""What `conformance init` reads of a function that somebody has, and how an adapter calls it.

Nothing is imported: the file's syntax tree says what its functions and classes take.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from conformance.cli.syntax import ANY_SHAPE, CHANNELS, Shape, defined, last_word, method, shape_of
from conformance.core.contract import CONTRACTS, names_of
from conformance.core.outcomes import UsageError
from conformance.core.signatures import GROUP

# What parameters are called, by the part that they have in a contract.
_ROLES = {
    "groups": r"(n|num|number_of|channel)?_?(g|groups?|grps?)(_?(n|num|count))?",
    "channels": CHANNELS,
    "model": r"model|net|network|module",
    "loss": r"loss|loss_?(fn|func|function)|criterion|objective",
    "batches": r"(micro_?)?batches|(data_?|train_?)?loader|dataset|data|windows",
    "group": GROUP,
    "devices": r"devices|device_ids|devs",
    "params": r"params|parameters",
    "step": r"(train_?|opt(imizer)?_?)?state|optimizer|opt|batch(_idx)?|rng|key|epoch|grads?",
    "size": r"world_?size|size|n_?procs|num_(gpus|ranks|workers)|n_ranks",
}
_GRADIENT_PARTS = ("model", "loss", "batches", "group", "devices", "params", "size")
_WRAPPERS = {"jit", "compile", "script", "partial", "no_grad", "vmap", "pmap", "checkpoint"}
# How many ranks there are, which no contract hands over.
_SIZE = "group.size()"


@dataclass(frozen=True)
class Parameter:
    """A parameter of somebody's function that has to be handed over, or may be."""

    name: str
    by_keyword: bool = False
    has_default: bool = False

    def part_among(self, parts: Iterable[str]) -> str:
        """Returns which of these parts of a contract the name means; empty for none."""
        word = self.name.lower()
        return next((part for part in parts if re.fullmatch(_ROLES[part], word)), "")


@dataclass(frozen=True)
class Wrapper:
    """What an adapter says of the code that it hands to the suite: its contract, and its body."""

    operation: str
    runs: str
    parameters: tuple[str, ...]
    body: tuple[str, ...]
    shape: Shape = ANY_SHAPE
    steps: str = ""


def wrapper(
    tree: ast.Module, node: ast.AST, owner: ast.ClassDef | None, dotted: str, framework: str
) -> Wrapper:
    """Returns how an adapter hands this definition to the suite.

    Raises:
        UsageError: if it fits no contract; the message begins with the words after the file's name.
    """
    if isinstance(node, ast.ClassDef):
        return _of_class(node, dotted, framework, shape_of(tree, node))
    if owner is not None:
        assert isinstance(node, ast.FunctionDef)
        return _of_method(node, owner, framework, shape_of(tree, node))
    code, parameters = _function(tree, node, dotted)
    shape = shape_of(tree, code)
    return _of_function(code, parameters, f"code.{dotted}", dotted, framework, shape)


def _function(
    tree: ast.Module, node: ast.AST, dotted: str
) -> tuple[ast.FunctionDef | ast.Lambda, list[Parameter]]:
    """Returns the function that a name stands for, through `jax.jit(f, …)` and `partial(f, …)`."""
    if isinstance(node, ast.FunctionDef):
        return node, _parameters(node.args)
    value = getattr(node, "value", None)
    if isinstance(value, ast.Lambda):
        return value, _parameters(value.args)
    if isinstance(value, ast.Name) and (inner := defined(tree.body, value.id)) not in (None, node):
        return _function(tree, inner, dotted)
    if isinstance(value, ast.Call) and value.args and last_word(value.func) in _WRAPPERS:
        code, parameters = _function(tree, ast.Expr(value.args[0]), dotted)
        if last_word(value.func) == "partial":
            bound = {keyword.arg for keyword in value.keywords}
            parameters = [p for p in parameters[len(value.args) - 1 :] if p.name not in bound]
        return code, parameters
    if isinstance(node, ast.AsyncFunctionDef):
        raise UsageError(f"{dotted} is async: write a function that awaits it, and returns")
    raise UsageError(f"says of {dotted} only what it is made of: write a function that calls it")


def _yields(node: ast.AST) -> bool:
    """Says whether a function is a generator; those within it are nothing to it."""
    return any(
        isinstance(part, ast.Yield | ast.YieldFrom) or _yields(part)
        for part in ast.iter_child_nodes(node)
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )


def _parameters(source: ast.arguments) -> list[Parameter]:
    positional = [*source.posonlyargs, *source.args]
    first_default = len(positional) - len(source.defaults)
    return [
        *(Parameter(a.arg, has_default=i >= first_default) for i, a in enumerate(positional)),
        *(
            Parameter(a.arg, by_keyword=True, has_default=default is not None)
            for a, default in zip(source.kwonlyargs, source.kw_defaults, strict=True)
        ),
    ]


def _of_function(
    code: ast.FunctionDef | ast.Lambda,
    parameters: Sequence[Parameter],
    call: str,
    name: str,
    framework: str,
    shape: Shape,
) -> Wrapper:
    arguments = _shuffle_arguments(parameters, shape)
    if arguments is not None:
        if _yields(code):
            raise UsageError(f"{name} yields: write a function that returns what it is to give")
        return _shuffle(f"{call}({arguments})", shape)
    found = _loop(code, parameters, call, framework) or _after_backward(parameters, call, framework)
    if found is not None:
        return found
    meant = dict.fromkeys(
        f"({', '.join(names_of(contract))})"
        for (_, of, _), contract in CONTRACTS.items()
        if of == framework
    )
    own = ", ".join(parameter.name for parameter in parameters)
    raise UsageError(
        f"{name}({own}) is none of {', '.join(meant)}: write a function that is, and calls it"
    )


def _shuffle(expression: str, shape: Shape) -> Wrapper:
    body = (f"return {expression}",)
    return Wrapper("channel_shuffle", "one_process", ("x", "groups"), body, shape)


def _shuffle_arguments(parameters: Sequence[Parameter], shape: Shape = ANY_SHAPE) -> str | None:
    """Returns what a shuffle is called with; None where the parameters are no shuffle's.

    >>> _shuffle_arguments([Parameter("groups"), Parameter("img")])
    'groups, x'
    >>> _shuffle_arguments([Parameter("a"), Parameter("b", has_default=True)])
    'x, groups'
    >>> _shuffle_arguments([Parameter("model"), Parameter("loss"), Parameter("batches")])
    """
    if any(parameter.part_among(("model", "loss", "params")) for parameter in parameters):
        return None
    parts = _parts_by_name(parameters) or _parts_by_place(parameters)
    if parts is None:
        return None
    values = {"x": "x", "groups": "groups", "channels": shape.channels}
    return _arguments(parameters, {name: values[part] for name, part in parts.items()})


def _parts_by_name(parameters: Sequence[Parameter]) -> dict[str, str] | None:
    """Returns what each parameter is, where one of them is called as groups are."""
    parts: dict[str, str] = {}
    for parameter in parameters:
        part = parameter.part_among(("groups", "channels"))
        if part and part not in parts.values():
            parts[parameter.name] = part
        elif not parameter.has_default:
            parts[parameter.name] = "x"
    is_shuffle = sorted(parts.values()) in (["groups", "x"], ["channels", "groups", "x"])
    return parts if is_shuffle else None


def _parts_by_place(parameters: Sequence[Parameter]) -> dict[str, str] | None:
    """Returns (x, groups) of two parameters, under whatever names."""
    needed = [parameter for parameter in parameters if not parameter.has_default]
    if len(needed) > 2 or len(parameters) < 2 or not needed:
        return None
    if any(parameter.part_among(("step",)) for parameter in needed):
        return None
    if len(needed) == 1 and len(parameters) > 2:
        return None
    first, second = needed if len(needed) == 2 else parameters
    return {first.name: "x", second.name: "groups"}


def _arguments(parameters: Sequence[Parameter], values: dict[str, str]) -> str:
    """Writes arguments: by position as long as none is left out, by keyword from there."""
    words, is_whole = [], True
    for parameter in parameters:
        is_whole = is_whole and parameter.name in values and not parameter.by_keyword
        if parameter.name in values:
            value = values[parameter.name]
            words.append(value if is_whole else f"{parameter.name}={value}")
    return ", ".join(words)


def _loop(
    code: ast.FunctionDef | ast.Lambda, parameters: Sequence[Parameter], call: str, framework: str
) -> Wrapper | None:
    """Returns how a loop over batches is called, by the names of what it takes."""
    parts = {p.name: p.part_among(_GRADIENT_PARTS) for p in parameters if not p.has_default}
    names = set(parts.values())
    if len(names) < len(parts) or not {"loss", "batches"} <= names:
        return None
    steps = "several" if _yields(code) else ""
    for (operation, of, runs), contract in CONTRACTS.items():
        wanted = names_of(contract)
        takes = {*wanted, "size"} if runs == "per_rank" else {*wanted}
        core = {"model", "params"} & {*wanted}
        if operation == "gradient_mean" and of == framework and core <= names <= takes:
            values = {name: _SIZE if part == "size" else part for name, part in parts.items()}
            body = (f"return {call}({_arguments(parameters, values)})",)
            return Wrapper(operation, runs, wanted, body, steps=steps)
    return None


def _after_backward(parameters: Sequence[Parameter], call: str, framework: str) -> Wrapper | None:
    """Returns how `average_gradients(model)` is called: each rank's backward stands before it."""
    parts = {p.name: p.part_among(_GRADIENT_PARTS) for p in parameters if not p.has_default}
    names = set(parts.values())
    is_one = len(names & {"model", "params"}) == 1 and names <= {"model", "params", "group", "size"}
    if framework != "torch" or len(names) < len(parts) or not is_one:
        return None
    values = {"model": "model", "params": "list(model.parameters())", "group": "group"}
    values["size"] = _SIZE
    arguments = _arguments(parameters, {name: values[part] for name, part in parts.items()})
    body = (
        "for tensor in (*model.parameters(), *model.buffers()):  # ranks begin alike",
        "    torch.distributed.broadcast(tensor.detach(), 0, group=group)",
        "for x, y in batches:",
        "    loss(model(x), y).backward()",
        f"{call}({arguments})",
    )
    return Wrapper("gradient_mean", "per_rank", ("model", "loss", "batches", "group"), body)


def _of_class(node: ast.ClassDef, dotted: str, framework: str, shape: Shape) -> Wrapper:
    """Returns how a module class is called: with groups when it is made, or with x."""
    call = next((f for name in ("forward", "__call__") if (f := method(node, name))), None)
    made = _made_with(node)
    called = _parameters(call.args)[1:] if call else [Parameter("x")]
    if not [p for p in made if p.part_among(("groups",))] and len(called) > 1:
        handed = _shuffle_arguments(called, shape)
        if handed is not None and all(p.has_default for p in made):
            return _shuffle(f"code.{dotted}()({handed})", shape)
    arguments = _made_arguments(made, shape)
    if arguments is None or sum(not p.has_default for p in called) > 1:
        own = ", ".join(parameter.name for parameter in made)
        raise UsageError(
            f"{dotted}({own}) is not made of groups, or of channels and groups, and called with x: "
            "write a function of (x, groups) that makes and calls it"
        )
    is_linen = framework == "jax" and _is_linen(node)
    after = ".apply({}, x)" if is_linen else "(x)"
    return _shuffle(f"code.{dotted}({arguments}){after}", shape)


def _made_with(node: ast.ClassDef) -> list[Parameter]:
    """Returns what a class is made of: by its `__init__`, or by its fields, as a dataclass has."""
    if (init := method(node, "__init__")) is not None:
        return _parameters(init.args)[1:]
    return [
        Parameter(field.target.id, has_default=field.value is not None)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def _made_arguments(parameters: Sequence[Parameter], shape: Shape) -> str | None:
    """Returns what a shuffle's class is made with; one parameter alone is groups."""
    needed = [p for p in parameters if not p.has_default]
    named = [p for p in parameters if p.part_among(("groups",))]
    if not named and len(needed) == 1:
        named = needed
    channels = [p for p in needed if p not in named and p.part_among(("channels",))]
    if len(named) != 1 or any(p not in (*named, *channels[:1]) for p in needed):
        return None
    values = {named[0].name: "groups", **{p.name: shape.channels for p in channels[:1]}}
    return _arguments(parameters, values)


def _is_linen(node: ast.ClassDef) -> bool:
    bases = [ast.unparse(base) for base in node.bases]
    return any(base in ("nn.Module", "linen.Module", "flax.linen.Module") for base in bases)


def _of_method(node: ast.FunctionDef, owner: ast.ClassDef, framework: str, shape: Shape) -> Wrapper:
    """Returns how a method is called, on its class or on an object that needs nothing else."""
    decorators = {last_word(decorator) for decorator in node.decorator_list}
    dotted, parameters = f"{owner.name}.{node.name}", _parameters(node.args)

    def called(rest: Sequence[Parameter], call: str) -> Wrapper:
        return _of_function(node, rest, call, dotted, framework, shape)

    if "staticmethod" in decorators:
        return called(parameters, f"code.{dotted}")
    if "classmethod" in decorators or not parameters:
        return called(parameters[1:], f"code.{dotted}")
    own, *rest = parameters
    made = _made_with(owner)
    if sum(not p.has_default for p in rest) == 1 and not _parts_by_name(rest):
        arguments = _made_arguments(made, shape)
        if arguments is not None:
            return _shuffle(f"code.{owner.name}({arguments}).{node.name}(x)", shape)
    if not any(isinstance(n, ast.Name) and n.id == own.name for n in ast.walk(node)):
        found = called(rest, f"code.{dotted}")
        # The object itself is not used: None stands for it.
        body = tuple(line.replace(f"{dotted}(", f"{dotted}(None, ") for line in found.body)
        return replace(found, body=body)
    if all(p.has_default for p in made):
        return called(rest, f"code.{owner.name}().{node.name}")
    raise UsageError(f"{dotted} is of an object: write a function that makes and calls it")
