"""The two sides of a call: `torch:module.path:factory`, found and made."""

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from conformance.compare.trace import NEVER, Model
from conformance.core.outcomes import UsageError

FRAMEWORKS = ("torch", "jax")
LAYOUTS = ("channels_first", "channels_last")


@dataclass(frozen=True)
class Side:
    """Where a model comes from, as it was named."""

    said: str
    framework: str
    module: str
    factory: str


def side(said: str) -> Side:
    """Read `torch:module.path:factory`.

    >>> side("jax:ports/block.py:block").module
    'ports/block.py'
    """
    framework, _, rest = said.partition(":")
    module, _, factory = rest.rpartition(":")
    if framework not in FRAMEWORKS or not module or not factory:
        raise UsageError(
            f"{said!r} names no model: write torch:module.path:factory or jax:FILE.py:factory"
        )
    return Side(said, framework, module, factory)


def model_of(one: Side, layout: str | None = None) -> Model:
    """Import the module, call the factory, and take what it made.

    Raises:
        UsageError: if the framework or the module cannot be imported, the factory is not there,
            takes arguments or raises, or makes no model.
    """
    if importlib.util.find_spec(one.framework) is None:
        raise UsageError(f"{one.said}: {one.framework} is not installed")
    if one.framework == "jax" and importlib.util.find_spec("flax") is None:
        raise UsageError(f"{one.said}: flax is not installed: pip install flax")
    kind, wide_types = _framework(one)
    with wide_types():
        made = _made(one)
    last = (layout or LAYOUTS[one.framework == "jax"]) == "channels_last"
    try:
        model: Model = kind(made, 4 if last else NEVER)
    except UsageError as error:
        raise UsageError(f"{one.said}: {error}") from error
    except Exception as error:
        raise UsageError(
            f"{one.said}: what the factory made is no model: {_words(error)}"
        ) from error
    return model


def as_it_is(one: Side) -> Model:
    """The model in the types that its factory gives it; it is the caller's to lay out."""
    kind, _ = _framework(one)
    model: Model = kind(_made(one), NEVER, is_wide=False)
    return model


def _made(one: Side) -> Any:
    factory = getattr(_imported(one), one.factory, None)
    if not callable(factory):
        raise UsageError(f"{one.said}: {one.module} has no function {one.factory}")
    if hasattr(type(factory), "forward"):  # Any call of a torch.nn.Module could be bound.
        raise UsageError(
            f"{one.said}: {one.factory} is a model itself; name a function that returns it"
        )
    _takes_nothing(one, factory)
    try:
        return factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"{one.said}: the factory raised {_words(error)}") from error


def _framework(one: Side) -> tuple[Any, Any]:
    """The class of the framework's models, and what makes its factories' numbers wide."""
    if one.framework == "torch":
        from conformance.compare.torch_model import TorchModel, wide_types

        return TorchModel, wide_types
    from conformance.compare.jax_model import JaxModel
    from conformance.compare.jax_model import wide_types as wide

    return JaxModel, wide


def _takes_nothing(one: Side, factory: Any) -> None:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UsageError(
            f"{one.said}: the factory takes arguments ({error}); "
            "name a function that takes none and returns the model"
        ) from error
    except ValueError:  # a callable without a signature: calling it will tell
        return


def _imported(one: Side) -> ModuleType:
    try:
        if one.module.endswith(".py"):
            return _from_file(one)
        if str(Path.cwd()) not in sys.path:  # as `python -m` does
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(one.module)
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the module's own code raises
        raise UsageError(f"{one.said}: {one.module} does not import: {_words(error)}") from error


def _from_file(one: Side) -> ModuleType:
    path = Path(one.module).resolve()
    if not path.is_file():
        raise UsageError(f"{one.said}: {one.module}: no such file")
    name = "conformance_port_" + path.stem.replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:  # as running the file does: its siblings can be imported
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _words(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
