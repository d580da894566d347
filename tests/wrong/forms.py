"""The known mistakes as users write them: which form in this folder is which mistake.

An adapter here is `OPERATION_FRAMEWORK.py`, or begins so; a form in it is a function
`FRAMEWORK_MISTAKE`, or `FRAMEWORK_MISTAKE__VARIANT` where one mistake has several forms.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.core.implementations import Implementation, adapter
from conformance.subjects import catalogue

FOLDER = Path(__file__).parent
FRAMEWORKS = ("torch", "jax")

# Why a mistake of the catalogue has no form in a framework.
WITHOUT_FORM = {
    ("aliased-or-mutated", "jax"): (
        "an array cannot be written to, so that nobody sees whether two share memory"
    ),
    ("never-synchronised", "jax"): (
        "a function returns one array for all devices; where each has a value of its own, "
        "the first device's is read, which is shard-0-returned"
    ),
    ("no-sync-around-backward-only", "jax"): (
        "no backward begins a collective by itself, and there is no no_sync() to misplace"
    ),
    ("initial-broadcast-missing", "jax"): (
        "parameters are handed over once, for all devices: no device has others"
    ),
    ("gathered-without-gradient", "jax"): (
        "a loss of parameters and a batch has no outputs to gather, and lax.all_gather has a "
        "gradient"
    ),
    ("moved-after-wrapping", "jax"): (
        "nothing wraps a model: a gradient is of all parameters that the function is handed"
    ),
    ("used-in-an-earlier-micro-batch", "jax"): (
        "a gradient has an array for every parameter, used or not, and all of them are reduced"
    ),
    ("step-skipped-by-one-rank", "jax"): (
        "a function returns one array for all devices: none can be without a gradient"
    ),
    ("shared-dropout-key", "jax"): (
        "the loss that is handed over takes no key, and no case asks JAX for noise"
    ),
}


@dataclass(frozen=True)
class Form:
    """A mistake in a framework's own terms.

    Attributes:
        implementation: the wrong code, as the suite declares it.
        mistake: its name in the catalogue.
        variant: what tells it from other forms of the mistake, in words; empty where it is alone.
    """

    implementation: Implementation
    mistake: str
    variant: str

    @property
    def framework(self) -> str:
        """Torch or jax."""
        return self.implementation.framework


@cache
def forms() -> tuple[Form, ...]:
    """Every form of this folder, file by file."""
    return tuple(form for path in files() for form in read(path))


def files() -> tuple[Path, ...]:
    """The adapters of this folder."""
    return tuple(
        path for framework in FRAMEWORKS for path in sorted(FOLDER.glob(f"*_{framework}*.py"))
    )


def read(path: Path) -> list[Form]:
    """The forms of one adapter, in its order.

    Raises:
        ValueError: naming the function, if its name is no mistake of its operation.
    """
    return [_form(path, implementation) for implementation in adapter(str(path))]


def _form(path: Path, implementation: Implementation) -> Form:
    framework, _, rest = implementation.name.partition("_")
    name, _, variant = rest.partition("__")
    mistake = name.replace("_", "-")
    known = [m.name for m in catalogue(implementation.operation)]
    if framework != implementation.framework or mistake not in known:
        raise ValueError(
            f"{path.name}: {implementation.name} is none of "
            f"{implementation.framework}_{{{','.join(known)}}} of {implementation.operation}"
        )
    return Form(implementation, mistake, variant.replace("_", " "))
