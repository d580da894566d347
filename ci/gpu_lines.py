"""Which lines run on no machine without a GPU: measured with coverage, kept in gpu_lines.toml.

python ci/gpu_lines.py     runs what a CPU can run of the files that know of devices, and writes
                           the file again; some minutes, and needs `pip install coverage`

Tests run in this process, checks in ranks, which save what they ran as they end. The README's list
is made of the file by ci/readme.py; a test holds its lines against the source.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).parent / "gpu_lines.toml"
FILES = (
    "conformance/run/devices.py",
    "conformance/frameworks/torch/host_data_parallel.py",
    "conformance/frameworks/jax/devices.py",
    "conformance/frameworks/precision.py",
    "conformance/behaviours/data_parallel/probe.py",
    "conformance/behaviours/data_parallel/article_probe.py",
    "conformance/behaviours/data_parallel/training_probe.py",
    "conformance/behaviours/ddp/construction_probe.py",
    "conformance/behaviours/ddp/hooks_probe.py",
    "conformance/frameworks/torch/devices.py",
    "conformance/gradient_mean/in_torch.py",
    "conformance/processes/torch_ranks.py",
    "impls/gradient_mean/torch_data_parallel.py",
    "impls/gradient_mean/torch_data_parallel_loss_inside.py",
)
TESTS = (
    "tests/frameworks/test_devices.py",
    "tests/frameworks/test_gpu_paths.py",
    "tests/frameworks/test_host_data_parallel.py",
    "tests/frameworks/test_precision.py",
    "tests/run/test_devices.py",
    "tests/processes/test_gpu_ranks.py",
)
CHECKS = (
    "channel_shuffle/torch_module:grid-c6-*",
    "gradient_mean/torch_ddp:[dl]*",
    "gradient_mean/torch_ddp:*-step",
    "gradient_mean/torch_virtual_vmap:*w16-*",
    "gradient_mean/torch_ddp_*hook:ddp-*",
    "gradient_mean/torch_*data_parallel*",
    "gradient_mean/jax_pmap:linear-w2-equal-*",
)
# A wrong answer or call is refused in the same way on every device, and other tests see to that.
NO_MATTER_OF_DEVICES = ("raise WrongAnswer(", "raise ValueError(")
# Stores of launches, and groups that a task tore down: tests of worlds run these in ranks that are
# killed, which save nothing.
IN_RANKS = ("TorchRendezvous.__init__", "TorchRendezvous.sync_state")
SETTINGS = """[run]
parallel = true
patch =
    subprocess
    fork
    _exit
data_file = {data}
include =
    {files}
"""


@dataclass(frozen=True)
class Unrun:
    """Lines of one function, as they stand in its file, without their indentation."""

    file: str
    function: str
    lines: tuple[str, ...]


def measure() -> list[Unrun]:
    """Run the tests and the checks, and collect what ran nowhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = folder / "coveragerc"
        files = "\n    ".join(str(ROOT / file) for file in FILES)
        settings.write_text(SETTINGS.format(data=folder / "data", files=files), encoding="utf-8")
        run = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}"]
        _call([*run, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS])
        _call([*run, __file__, "--checks", str(folder / "report")])
        _call([sys.executable, "-m", "coverage", "combine", f"--rcfile={settings}"])
        report = folder / "report.json"
        told = [f"--rcfile={settings}", "-q", "-o", str(report)]
        _call([sys.executable, "-m", "coverage", "json", *told])
        found = json.loads(report.read_text(encoding="utf-8"))["files"]
    missing = {
        Path(os.path.relpath(path, ROOT)).as_posix(): one["missing_lines"]
        for path, one in found.items()
    }
    return [unrun for file in FILES for unrun in by_function(file, missing[file])]


def _call(call: Sequence[str]) -> None:
    subprocess.run(call, cwd=ROOT, check=True)


def ask(folder: Path) -> None:
    """Ask the checks, and let ranks end by themselves, since one that is killed saves nothing."""
    from conformance.processes.rank_group import RankGroup
    from conformance.run import runner
    from conformance.run.plan import make_plan

    def not_killed(_ranks: RankGroup) -> None:
        """They see their sockets close."""

    RankGroup.kill = not_killed  # type: ignore[method-assign]
    runner.run(make_plan(CHECKS), folder, jobs=1)


def by_function(file: str, numbers: Sequence[int]) -> Iterator[Unrun]:
    """The lines of these numbers, function by function."""
    text = (ROOT / file).read_text(encoding="utf-8")
    source, tree = text.splitlines(), ast.parse(text)
    found: dict[str, list[str]] = {}
    for number in numbers:
        line = source[number - 1].strip()
        if not line.startswith(NO_MATTER_OF_DEVICES):
            found.setdefault(_function_at(tree, number), []).append(line)
    for function, lines in found.items():
        if function not in IN_RANKS:
            yield Unrun(file, function, tuple(lines))


def _function_at(tree: ast.AST, number: int) -> str:
    """The innermost function or class around a line, with those around it."""
    names: list[str] = []
    inside: ast.AST | None = tree
    while inside is not None:
        inside = next(
            (
                node
                for node in ast.walk(inside)
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
                and node is not inside
                and node.lineno <= number <= (node.end_lineno or node.lineno)
            ),
            None,
        )
        if inside is not None:
            names.append(inside.name)
    return ".".join(names) or "(the module)"


def rendered(found: Sequence[Unrun]) -> str:
    """The file's text."""
    head = (
        "# Lines of the files that know of devices which run on no machine without a GPU:\n"
        "# `python ci/gpu_lines.py` measures them again.\n"
    )
    return head + "".join(map(_table, found))


def _table(one: Unrun) -> str:
    lines = "".join(f"    {json.dumps(line, ensure_ascii=False)},\n" for line in one.lines)
    place = f"file = {json.dumps(one.file)}\nfunction = {json.dumps(one.function)}"
    return f"\n[[unrun]]\n{place}\nlines = [\n{lines}]\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--checks"]:
        ask(Path(sys.argv[2]))
    else:
        FILE.write_text(rendered(measure()), encoding="utf-8")
