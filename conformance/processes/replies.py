"""Calls a task's function, and tells whatever happens as something that can be sent."""

import importlib
import io
import operator
import pickle
import sys
from collections.abc import Callable
from typing import Any

from conformance.core.outcomes import Declined, NotExercised, Raised, Unsupported
from conformance.processes import stack_frames as frames


def resolve(name: str) -> Any:
    """The object at "package.module:name"."""
    module, _, attribute = name.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def attempt(function: Callable[[], Any], folder: str) -> Any:
    """What a function gave, or how it failed; nothing that it raises escapes.

    Args:
        function: what to call.
        folder: the folder that places in the code are told relative to.
    """
    try:
        return function()
    except Unsupported as declined:
        return Declined("unsupported", str(declined))
    except NotExercised as declined:
        return Declined("not-exercised", str(declined))
    except BaseException as error:  # noqa: BLE001 - SystemExit too is a thing that code under test does
        return raised(error, folder)


def raised(error: BaseException, folder: str) -> Raised:
    """An exception, in words."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as unreadable:  # noqa: BLE001 - a message is written by the code under test
        message = f"(its message cannot be read: {type(unreadable).__name__})"
    bases = tuple(ancestor.__name__ for ancestor in kind.__mro__[1:-1])
    return Raised(kind.__name__, message, bases, frames.where(error.__traceback__, folder))


def packed(value: Any, standing: Any, folder: str) -> bytes:
    """A reply as bytes; where the value does not pickle, that is what is told."""

    def pack() -> bytes:
        return pickle.dumps((value, standing), protocol=5)

    reply = attempt(pack, folder)
    if isinstance(reply, bytes):
        return reply
    failure = Raised(
        reply.type if isinstance(reply, Raised) else "PicklingError",
        f"the answer, a {type(value).__name__}, cannot be sent: {getattr(reply, 'message', reply)}",
        getattr(reply, "bases", ()),
    )
    return pickle.dumps((failure, standing), protocol=5)


def unpacked(reply: bytes | bytearray) -> tuple[Any, Any]:
    """The value and the standing of a reply, or how it could not be read.

    An answer may only name classes of modules that are imported here already: so a tensor that
    slips into one imports no framework into this process.
    """
    try:
        value, standing = _Careful(io.BytesIO(reply)).load()
    except Exception as error:  # noqa: BLE001 - what it holds was made by the code under test
        return Raised(type(error).__name__, f"the answer cannot be read: {error}"), None
    return value, standing


class _Careful(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in sys.modules or module.partition(".")[0] in sys.stdlib_module_names:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which only the rank knows")
