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
# Of the environment only what decides which kernels run; nothing that could tell who ran them.
VARIABLES = re.compile(r"(CUDA|NVIDIA|NCCL|GLOO|TORCH|PYTORCH|JAX|XLA|CUBLAS|CUDNN|OMP)_\w+")
EPILOG = "Arguments after -- go to `conformance run`. Exit status: as of `conformance run`."
# Not all that nvidia-smi tells: it names other people's processes.
ASKED_OF_GPUS = "name,driver_version,memory.total,memory.used,compute_cap,mig.mode.current"
QUESTIONS = (
    ["nvidia-smi", f"--query-gpu={ASKED_OF_GPUS}", "--format=csv"],
    ["nvidia-smi", "topo", "-m"],
    ["nvcc", "--version"],
)


def is_installed(package: str) -> bool:
    """Whether a package is here, without importing it."""
    return version(package) is not None


def version(package: str) -> str | None:
    """The version of a package; None where it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def lacking() -> str:
    """What the suite cannot do without and is not here, in one line; empty where all is here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.match(r"[\w-]+", text)[0] for text in project["dependencies"]]  # type: ignore[index]
    missing = [name for name in needed if not is_installed(name)]
    if not any(map(is_installed, FRAMEWORKS)):
        missing.append("torch or jax")
    return f"{sys.executable} lacks {', '.join(missing)}" if missing else ""


def remarks() -> Iterator[str]:
    """What will be left out, in words."""
    for package, name in FRAMEWORKS.items():
        if not is_installed(package):
            yield f"{name} is not here: its checks will be `unsupported`"


def environment(header: dict[str, Any] | None) -> dict[str, Any]:
    """What this machine is, as far as it bears on results.

    Args:
        header: that of results.jsonl, None where no check was asked.
    """
    packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "run": (header or {}).get("environment"),
        "variables": {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)},
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "told": {" ".join(call): _told(call) for call in QUESTIONS},
    }


def _told(call: Sequence[str]) -> str:
    if shutil.which(call[0]) is None:
        return "not here"
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def ask(arguments: Sequence[str], folder: Path) -> int:
    """`conformance run` with these arguments; what it prints is shown, and kept in summary.txt."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "conformance", "run", *arguments, "--report", str(folder)]
    with subprocess.Popen(
        call, env={**os.environ, **settings}, stdout=subprocess.PIPE, encoding="utf-8"
    ) as running:
        # Ctrl-C reaches the run as well, which keeps what is finished and says so: wait for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert running.stdout is not None
        told = []
        for line in running.stdout:
            print(line, end="", flush=True)
            told.append(line)
    if told:
        (folder / "summary.txt").write_text("".join(told), encoding="utf-8")
    return running.returncode


def header_of(results: Path) -> dict[str, Any] | None:
    """The first line of a results file; None where there is none."""
    try:
        with results.open(encoding="utf-8") as stream:
            header: dict[str, Any] = json.loads(stream.readline())
    except (OSError, ValueError):
        return None
    return header


def main() -> int:
    """Read the call."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("ci/gpu", description=about, epilog=EPILOG)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="which checks; or all")
    parser.add_argument(
        "--device", action="append", metavar="DEVICE", help="or cpu and cuda; all is what is here"
    )
    parser.add_argument("--to", type=Path, default=Path("conformance-gpu"), metavar="DIR")
    mine, more = _split(sys.argv[1:])
    arguments = parser.parse_args(mine)
    if lack := lacking():
        print(f"ci/gpu: {lack}", file=sys.stderr)
        return 2
    for line in remarks():
        print(f"ci/gpu: {line}", file=sys.stderr)
    devices = arguments.device or ["cpu", "cuda"]
    folder: Path = arguments.to
    (folder / "results.jsonl").unlink(missing_ok=True)  # an earlier run's is not this one's
    chosen = [f"--device={device}" for device in devices]
    status = ask([*arguments.patterns, *chosen, *more], folder)
    header = header_of(folder / "results.jsonl")
    if header is None:
        (folder / "results.jsonl").unlink(missing_ok=True)
        if "cuda" in devices:
            print("ci/gpu: --device cpu asks what can be asked without a GPU", file=sys.stderr)
        return status or 2
    told = json.dumps(environment(header), indent=1, ensure_ascii=False)
    (folder / "environment.json").write_text(told + "\n", encoding="utf-8")
    shutil.rmtree(
        folder / "cache", ignore_errors=True
    )  # compiled code: large, and of use here alone
    print(f"ci/gpu: send back the folder {folder}", file=sys.stderr)
    return status


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what follows `--`."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


if __name__ == "__main__":
    sys.exit(main())
