"""Calls a task's function, and makes whatever happens a reply that can be sent."""

import importlib
import io
import operator
import pickle
import sys
from collections.abc import Callable
from typing import Any

from conformance.core.outcomes import Declined, NotExercised, Raised, Unsupported
from conformance.processes import stack_frames


def resolve(name: str) -> Any:
    """Returns the object at "package.module:name"; `task.name_of` makes such names."""
    module, _, attribute = name.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def attempt(function: Callable[[], Any], folder: str) -> Any:
    """Returns what a function returns, or how it failed; nothing that it raises escapes.

    Args:
        function: what to call.
        folder: lines of code are given relative to it.
    """
    try:
        return function()
    except Unsupported as declined:
        return Declined("unsupported", str(declined))
    except NotExercised as declined:
        return Declined("not-exercised", str(declined))
    except BaseException as error:  # noqa: BLE001 - code under test raises SystemExit too
        return raised(error, folder)


def raised(error: BaseException, folder: str) -> Raised:
    """Describes an exception in words."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as unreadable:  # noqa: BLE001 - code under test writes messages
        message = f"(its message cannot be read: {type(unreadable).__name__})"
    bases = tuple(ancestor.__name__ for ancestor in kind.__mro__[1:-1])
    return Raised(kind.__name__, message, bases, stack_frames.where(error.__traceback__, folder))


def packed(value: Any, sync_state: Any, folder: str) -> bytes:
    """Encodes a reply; a value that does not pickle becomes an error that says so."""

    def pack() -> bytes:
        return pickle.dumps((value, sync_state), protocol=5)

    reply = attempt(pack, folder)
    if isinstance(reply, bytes):
        return reply
    failure = Raised(
        reply.type if isinstance(reply, Raised) else "PicklingError",
        f"the answer, a {type(value).__name__}, cannot be sent: {getattr(reply, 'message', reply)}",
        getattr(reply, "bases", ()),
    )
    return pickle.dumps((failure, sync_state), protocol=5)


def unpacked(reply: bytes | bytearray) -> tuple[Any, Any]:
    """Decodes a reply into its value and sync state, or says why it cannot be read.

    An answer may only name classes of modules that this process has imported: so a tensor that
    slips into one imports no framework.
    """
    try:
        value, sync_state = _Careful(io.BytesIO(reply)).load()
    except Exception as error:  # noqa: BLE001 - what it holds was made by the code under test
        return Raised(type(error).__name__, f"the answer cannot be read: {error}"), None
    return value, sync_state


class _Careful(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in sys.modules or module.partition(".")[0] in sys.stdlib_module_names:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which only the rank knows")
