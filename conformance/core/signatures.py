"""Whether a declared function fits its contract, and what to write where it does not.

The suite calls an implementation by position, in the order of its contract. The decorator verifies:

- The function can be called so. What it takes by keyword only (`def f(x, *, groups)`) is handed
  over by keyword; whatever else it takes has a default.
- Parameters may have names of their own. But a name of the contract stands at the contract's
  place, and parameters that are another contract's would be handed other things.
- It answers when it is called: a class, a coroutine, or a generator where one window is asked for
  gives something else.
- A callable whose signature Python cannot tell, or that takes `*args`, is believed.
- The suite's own files have the contract's names exactly: they are read side by side.
"""

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature
from typing import Any

from conformance.core.contract import CONTRACTS, CONTRACTS_OF_STEPS, names_of

# What a group of processes is called: a parameter of such a name is no list of devices.
GROUP = r"(process_?|dist_?)?group|pg|comm"
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMES = frozenset(
    name
    for table in (CONTRACTS, CONTRACTS_OF_STEPS)
    for contract in table.values()
    for name in names_of(contract)
)


def misfit(contract: type, name: str, signature: Signature, *, exact: bool = False) -> str:
    """Says which parameter is wrong, what it must be and what to write; empty if none is.

    Args:
        contract: one of `CONTRACTS`.
        name: of the function.
        signature: the function's own.
        exact: whether names of one's own are wrong too.

    >>> from conformance.core.contract import ChannelShuffle
    >>> def swapped(groups, x): ...
    >>> misfit(ChannelShuffle, "swapped", inspect.signature(swapped))
    "parameter 1 is 'groups' and must be 'x': write def swapped(x, groups)"
    """
    wanted, parameters = names_of(contract), signature.parameters
    remedy = _remedy(contract, name)
    by_keyword = _keyword_only(wanted, signature)
    by_position = [word for word in wanted if word not in by_keyword]
    own = [word for word, parameter in parameters.items() if parameter.kind in _BY_POSITION]
    pairs = enumerate(zip(own, by_position, strict=False), 1)
    differing = [(place, word, right) for place, (word, right) in pairs if word != right]
    for (_, framework, runs), other in CONTRACTS.items():
        if differing and _are_of(own, other, wanted):
            place, word, right = min(differing, key=lambda one: _meant(one[1]) not in _NAMES)
            return (
                f"parameter {place} is {word!r} and must be {right!r}: {remedy}, or declare "
                f"framework={framework!r}, runs={runs!r}, to which ({', '.join(own)}) belongs"
            )
    for place, word, right in differing:
        if exact or word in wanted:
            return f"parameter {place} is {word!r} and must be {right!r}: {remedy}"
    for word in own[len(by_position) :]:
        if word in by_position:
            place = by_position.index(word)
            return f"parameter {place + 1} is {own[place]!r} and must be {word!r}: {remedy}"
    try:
        signature.bind(*by_position, **dict.fromkeys(by_keyword))
    except TypeError as error:
        own_words, words = ", ".join(parameters), ", ".join(wanted)
        return f"({own_words}) cannot be called with ({words}), {error}: {remedy}"
    return ""


def misuse(contract: type, name: str, function: Any) -> str:
    """Says why what is declared gives no answer when it is called; empty where it may.

    >>> from conformance.core.contract import ChannelShuffle
    >>> misuse(ChannelShuffle, "shuffle", 3)
    'is an int and no function: write def shuffle(x, groups)'
    """
    steps = {CONTRACTS[key]: of_steps for key, of_steps in CONTRACTS_OF_STEPS.items()}
    remedy = _remedy(contract, name)
    if not callable(function):
        kind = type(function).__name__
        return f"is {'an' if kind[0] in 'aeiou' else 'a'} {kind} and no function: {remedy}"
    if inspect.isclass(function):
        return f"is a class: {remedy}, which makes an object and calls it"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"is async, and nothing awaits it: {remedy}"
    if inspect.isgeneratorfunction(function) and contract not in steps.values():
        several = steps.get(contract)
        words = f", or declare steps='several': {_remedy(several, name)}" if several else ""
        return f"yields, and must return: {remedy}{words}"
    return ""


def _remedy(contract: type, name: str) -> str:
    return f"write def {name}({', '.join(names_of(contract))})"


def _are_of(own: Sequence[str], other: type, wanted: Sequence[str]) -> bool:
    """Says whether parameters are another contract's, those apart whose names are nobody's."""
    names = names_of(other)
    if tuple(own) == names:
        return True
    pairs = list(zip(map(_meant, own), names, wanted, strict=False))
    return (
        len(own) == len(names) == len(wanted)
        and all(word == name or word not in _NAMES for word, name, _ in pairs)
        and any(word == name != right for word, name, right in pairs)
    )


def _meant(word: str) -> str:
    return "group" if re.fullmatch(GROUP, word) else word


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """Returns the signature of a callable itself, not of what it wraps; None if nobody can tell."""
    if hasattr(getattr(function, "__wrapped__", None), "__wrapped__"):
        return None  # `jax.jit` says the innermost signature, which a wrapper between may change.
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def written_signature(function: ast.FunctionDef) -> Signature:
    """Returns the signature that the source of a function gives it."""
    source = function.args
    positional = [*source.posonlyargs, *source.args]
    without_default = len(positional) - len(source.defaults)
    parameters = [
        Parameter(
            argument.arg,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if place < without_default else None,
        )
        for place, argument in enumerate(positional)
    ]
    if source.vararg is not None:
        parameters.append(Parameter(source.vararg.arg, Parameter.VAR_POSITIONAL))
    for argument, default in zip(source.kwonlyargs, source.kw_defaults, strict=True):
        empty = Parameter.empty if default is None else None
        parameters.append(Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=empty))
    if source.kwarg is not None:
        parameters.append(Parameter(source.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(parameters)


def called_by_position(contract: type, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function, or one that hands over by keyword what it takes by keyword only."""
    names = names_of(contract)
    try:
        signature = inspect.signature(function, follow_wrapped=False)
        if any(p.kind is Parameter.VAR_KEYWORD for p in signature.parameters.values()):
            signature = inspect.signature(function)  # a wrapper passes on what it is handed
    except (TypeError, ValueError):
        return function
    by_keyword = _keyword_only(names, signature)
    if not by_keyword:
        return function

    @wraps(function)
    def called(*arguments: Any) -> Any:
        handed = dict(zip(names, arguments, strict=True))
        keywords = {name: handed.pop(name) for name in by_keyword}
        return function(*handed.values(), **keywords)

    return called


def _keyword_only(names: Sequence[str], signature: Signature) -> list[str]:
    parameters = signature.parameters
    return [
        name
        for name in names
        if name in parameters and parameters[name].kind is Parameter.KEYWORD_ONLY
    ]
