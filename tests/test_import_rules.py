"""Data flows one way: what may import what, by the syntax trees of the files."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "conformance"
FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "optax", "einops"}
# Nothing later is imported by anything earlier; rooms of one row do not know each other.
ORDER = (
    ("core",),
    ("arithmetic", "frameworks"),
    ("channel_shuffle", "processes", "behaviours"),
    ("gradient_mean",),
    ("subjects",),
    ("compare", "run", "weighing"),
    ("testing", "proofs", "report"),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# These alone import a framework at all; everything else reaches one through them.
MAY_IMPORT_A_FRAMEWORK = (
    "frameworks/*",
    "gradient_mean/in_*.py",
    "gradient_mean/torch_models.py",
    "gradient_mean/jax_models.py",
    "behaviours/*_probe.py",
    "behaviours/*/probe.py",
    "behaviours/jax/modes.py",
    "compare/*_model.py",
    "compare/flax_layers.py",
    "processes/torch_r*.py",
    "processes/jax_*.py",
    "run/launch/stores.py",
    "weighing/in_*.py",
    "weighing/torch_*.py",
)
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
    own = room_of(path)
    if own == "__init__":
        return
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "conformance" and room in LEVEL and room != own:
            assert LEVEL[room] < LEVEL[own], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_bridges_probes_and_rank_modules_name_a_framework(path):
    used = {name.partition(".")[0] for name in imports_of(path)} & FRAMEWORKS
    place = str(path.relative_to(PACKAGE))
    if not any(fnmatch(place, glob) for glob in MAY_IMPORT_A_FRAMEWORK):
        assert not used
    for framework in ("torch", "jax"):
        if place.startswith(f"frameworks/{framework}/"):
            assert used <= {framework, *(("flax",) if framework == "jax" else ())}


def test_no_kind_of_question_is_asked_for_by_its_class():
    asking = re.compile(r"isinstance\([^)]*Question|case \w+Question\(")
    places = [str(path) for path in FILES if asking.search(path.read_text(encoding="utf-8"))]
    assert places == []


def test_no_module_stands_at_the_root_but_the_doors():
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "subjects.py",
    }


def test_every_room_says_what_it_is():
    for path in PACKAGE.rglob("__init__.py"):
        if "impls" not in path.parts:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert docstring, path


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
