"""Data flows one way: what may import what, by the syntax trees of the files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "conformance"
FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "optax", "einops"}
# Nothing later is imported by anything earlier.
ORDER = (
    ("errors", "outcomes", "dtypes"),
    ("clauses",),
    ("cases",),
    ("oracle",),
    ("mistakes", "store"),
    ("registry",),
    ("checks",),
    ("frameworks",),
    ("asking",),
    ("worlds",),
    ("judge",),
    ("porting",),
    ("costs", "devices", "versions"),
    ("plan", "examiner", "results", "killing"),
    ("calibration", "fuzz", "golden_cases"),
    ("mutants",),
    ("runner", "report"),
    ("worker",),
    ("listing", "explaining", "regeneration", "bench"),
    ("cli", "pytest_plugin", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "impls" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_every_room_has_its_place_in_the_order():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_later_is_imported_by_anything_earlier(path):
    if room_of(path) == "__init__":
        return
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "conformance" and room in LEVEL:
            assert LEVEL[room] <= LEVEL[room_of(path)], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_bridges_and_worlds_name_a_framework(path):
    used = {name.partition(".")[0] for name in imports_of(path)} & FRAMEWORKS
    if room_of(path) not in ("frameworks", "worlds"):
        of_models = {"torch_model.py": {"torch"}, "jax_model.py": {"jax", "flax"},
                     "flax_layers.py": {"flax"}}  # fmt: skip
        assert used <= (of_models.get(path.name, set()) if room_of(path) == "porting" else set())
    elif path.name.endswith("_bridge.py"):
        assert used <= {path.name.removesuffix("_bridge.py")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "implementations"],
        ["list", "checks"],
        ["explain", "S1"],
        ["compare", "--help"],
    ],
)
def test_help_list_and_explain_import_no_framework(arguments):
    code = (
        "import sys; from conformance.cli import commands\n"
        f"try: commands({arguments!r}, standalone_mode=False)\n"
        "except SystemExit: pass\n"
        f"sys.exit(bool({FRAMEWORKS!r} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
