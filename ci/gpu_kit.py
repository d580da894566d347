"""Runs the suite on a GPU machine that can fetch nothing, and leaves one folder to send back.

bash ci/gpu [PATTERN…] [--device DEVICE]… [--to DIR] [-- ARGUMENTS of conformance run]

DIR gets results.jsonl and what is made of it, `summary.txt` as it was printed, and
`environment.json`: devices, driver, versions, and the settings and measurements of precision. This
file needs the standard library alone; it says in one line what the suite needs and is not here.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"torch": "torch", "jax": "JAX"}
# Only variables that decide which kernels run are kept, and none that could identify a person.
VARIABLES = re.compile(r"(CUDA|NVIDIA|NCCL|GLOO|TORCH|PYTORCH|JAX|XLA|CUBLAS|CUDNN|OMP)_\w+")
EPILOG = "Arguments after -- go to `conformance run`. Exit status: as of `conformance run`."
# nvidia-smi is asked for these fields alone, since others name other people's processes.
GPU_FIELDS = "name,driver_version,memory.total,memory.used,compute_cap,mig.mode.current"
QUESTIONS = (
    ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv"],
    ["nvidia-smi", "topo", "-m"],
    ["nvcc", "--version"],
)


def is_installed(package: str) -> bool:
    """Says whether a package is installed, without importing it."""
    return version(package) is not None


def version(package: str) -> str | None:
    """Returns the version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def lacking() -> str:
    """Returns in one line which packages the suite needs and lacks, or an empty text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.match(r"[\w-]+", text)[0] for text in project["dependencies"]]  # type: ignore[index]
    missing = [name for name in needed if not is_installed(name)]
    if not any(map(is_installed, FRAMEWORKS)):
        missing.append("torch or jax")
    return f"{sys.executable} lacks {', '.join(missing)}" if missing else ""


def remarks() -> Iterator[str]:
    """Yields a line for each framework that will be left out."""
    for package, name in FRAMEWORKS.items():
        if not is_installed(package):
            yield f"{name} is not here: its checks will be `unsupported`"


def environment(header: dict[str, Any] | None) -> dict[str, Any]:
    """Describes this machine, as far as it bears on results.

    Args:
        header: the header of results.jsonl, None where no check was asked.
    """
    packages = {
        distribution.metadata["Name"]: distribution.version
        for distribution in importlib.metadata.distributions()
    }
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "run": (header or {}).get("environment"),
        "variables": {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)},
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "told": {" ".join(call): _output_of(call) for call in QUESTIONS},
    }


def _output_of(call: Sequence[str]) -> str:
    if shutil.which(call[0]) is None:
        return "not here"
    try:
        completed = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return completed.stdout + completed.stderr


def ask(arguments: Sequence[str], folder: Path) -> int:
    """Runs `conformance run` with these arguments; its output is shown, and kept in summary.txt."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "conformance", "run", *arguments, "--report", str(folder)]
    with subprocess.Popen(
        call, env={**os.environ, **settings}, stdout=subprocess.PIPE, encoding="utf-8"
    ) as running:
        # Ctrl-C reaches the run as well, which must have time to keep what is finished.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if lines:
        (folder / "summary.txt").write_text("".join(lines), encoding="utf-8")
    return running.returncode


def header_of(results: Path) -> dict[str, Any] | None:
    """Reads the first line of a results file, or returns None."""
    try:
        with results.open(encoding="utf-8") as stream:
            header: dict[str, Any] = json.loads(stream.readline())
    except (OSError, ValueError):
        return None
    return header


def main() -> int:
    """Reads the call."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("ci/gpu", description=about, epilog=EPILOG)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="which checks; or all")
    parser.add_argument(
        "--device", action="append", metavar="DEVICE", help="or cpu and cuda; all is what is here"
    )
    parser.add_argument("--to", type=Path, default=Path("conformance-gpu"), metavar="DIR")
    own_words, more = _split(sys.argv[1:])
    arguments = parser.parse_args(own_words)
    if lack := lacking():
        print(f"ci/gpu: {lack}", file=sys.stderr)
        return 2
    for line in remarks():
        print(f"ci/gpu: {line}", file=sys.stderr)
    devices = arguments.device or ["cpu", "cuda"]
    folder: Path = arguments.to
    # Results of an earlier run must not pass for results of this run.
    (folder / "results.jsonl").unlink(missing_ok=True)
    chosen = [f"--device={device}" for device in devices]
    status = ask([*arguments.patterns, *chosen, *more], folder)
    header = header_of(folder / "results.jsonl")
    if header is None:
        (folder / "results.jsonl").unlink(missing_ok=True)
        if "cuda" in devices:
            print("ci/gpu: --device cpu asks what can be asked without a GPU", file=sys.stderr)
        return status or 2
    described = json.dumps(environment(header), indent=1, ensure_ascii=False)
    (folder / "environment.json").write_text(described + "\n", encoding="utf-8")
    print(f"ci/gpu: send back the folder {folder}", file=sys.stderr)
    return status


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the words into the script's own, and the words after `--`."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


if __name__ == "__main__":
    sys.exit(main())
