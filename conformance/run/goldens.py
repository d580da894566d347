"""Goldens on disk: safetensors files and a manifest, written whole and verified when read.

The format, for programs in any language, is described in `docs/goldens.md`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from conformance.core.dtypes import DTYPES, Dtype, of_numpy
from conformance.core.golden import Golden, sha256_of
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import Count, checked, parse_json, read_bytes
from conformance.core.questions import AnyCase
from conformance.subjects import all_cases, solve

FORMAT = 2
MANIFEST = "manifest.json"
FOLDER = Path(__file__).parents[1] / "goldens"


# All implementations are asked the same drawn cases, one after another.
_CACHED = 512

solved = lru_cache(maxsize=_CACHED)(solve)


class OnTheFly:
    """The right answers to cases outside the suite, each solved once and cached."""

    def of(self, case: AnyCase) -> Golden:
        """Returns the golden of a case."""
        return solved(case)


def dtype_of(array: np.ndarray, case: AnyCase) -> Dtype:
    """Returns the dtype of an array of a case: the question's own where its carrier fits."""
    own = DTYPES.get(getattr(case.question, "dtype", ""))
    return own if own and array.dtype == own.carrier else of_numpy(array.dtype)


# Writing


def render(
    cases: Iterable[AnyCase], progress: Callable[[AnyCase], None] = lambda _: None
) -> dict[str, bytes]:
    """Makes every file of the goldens folder, by name: the same bytes on every machine."""
    tensors: dict[str, dict[str, np.ndarray]] = {}
    entries: dict[str, Any] = {}
    for case in cases:
        progress(case)
        file = f"{case.operation}-{case.family}.safetensors"
        golden = solve(case)
        entries[case.id] = {
            "operation": case.operation,
            "family": case.family,
            "clauses": list(case.clauses),
            "parameters": case.parameters(),
            "promises": list(case.promises),
            "frameworks": list(case.frameworks),
            "asked_of": list(case.asked_of),
            "refusal": vars(case.refusal) if case.refusal else None,
            "tier": case.tier,
            "certificate": golden.certificate,
            "inputs": _entries(case, file, "input", golden.inputs, tensors),
            "answers": _entries(case, file, "answer", golden.answers, tensors),
            "bounds": _entries(case, file, "bound", golden.bounds, tensors),
        }
    files = {name: safetensors.numpy.save(content) for name, content in sorted(tensors.items())}
    return {**files, MANIFEST: rendered_manifest(files, entries)}


def rendered_manifest(files: Mapping[str, bytes], entries: Mapping[str, Any]) -> bytes:
    """Writes the manifest for these files and these entries of cases."""
    described = {
        name: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in files.items()
    }
    return _manifest_bytes(described, entries)


def _manifest_bytes(described: Mapping[str, Any], entries: Mapping[str, Any]) -> bytes:
    """Writes one line a case, so that a change of a case is a change of a line."""
    cases = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}"
        for name, entry in entries.items()
    )
    head = json.dumps({"format": FORMAT, "files": described}, indent=1)
    text = f'{head[:-2]},\n "cases": {{\n{cases}\n }}\n}}\n'
    # Half a character, in a manifest of somebody else, becomes an escape.
    return text.encode("utf-8", "backslashreplace")


def _entries(
    case: AnyCase,
    file: str,
    part: str,
    arrays: Mapping[str, np.ndarray],
    tensors: dict[str, dict[str, np.ndarray]],
) -> dict[str, Any]:
    described = {}
    for name, array in arrays.items():
        dtype = dtype_of(array, case)
        described[name] = {
            "file": None if case.on_the_fly else file,
            "tensor": None if case.on_the_fly else f"{case.name}/{part}/{name}",
            "dtype": dtype.name,
            "shape": list(array.shape),
            "sha256": sha256_of(array),
        }
        if not case.on_the_fly:
            tensors.setdefault(file, {})[f"{case.name}/{part}/{name}"] = _stored(array, dtype)
    return described


def _stored(array: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Converts an array to a type of safetensors: a complex number becomes an axis of two parts.

    The result is C-contiguous: the writer would silently take a strided array's buffer as it lies.
    """
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    if dtype.parts == 1:
        return contiguous
    part = np.dtype(f"f{dtype.carrier.itemsize // 2}")
    return contiguous.reshape(*array.shape, 1).view(part)


def write(files: Mapping[str, bytes], folder: Path = FOLDER) -> None:
    """Replaces the old set of files by a complete new set; a kill leaves one of the sets whole.

    The new set is written beside the old set and takes its name; in the instant between, readers
    fall back to the second name of the old set.
    """
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    for leftover in (fresh, old) if folder.is_dir() else (fresh,):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, raw in files.items():
        with (fresh / name).open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
    if folder.is_dir():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}-{suffix}")


# Reading


class ArrayEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An array in the manifest; one that is solved on the fly has neither file nor tensor."""

    file: str | None
    tensor: str | None
    dtype: str
    shape: list[Count]
    sha256: str


class CaseEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A case in the manifest. What is the suite's own is compared with it, and has any form."""

    operation: Any
    family: Any
    clauses: Any
    parameters: Any
    promises: Any
    frameworks: Any
    asked_of: Any
    refusal: Any
    tier: Any
    certificate: dict[str, Any] | None
    inputs: dict[str, ArrayEntry]
    answers: dict[str, ArrayEntry]
    bounds: dict[str, ArrayEntry]


class FileEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A file in the manifest."""

    bytes: Count
    sha256: str


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """The manifest: all files and all cases."""

    format: int
    files: dict[str, FileEntry]
    cases: dict[str, Any]


@dataclass(frozen=True)
class Goldens:
    """A verified set of goldens.

    Attributes:
        sha256: the hash of the manifest, and so of all goldens.
        by_case: the goldens by the id of their case.
        by_operation: the SHA-256 of each operation's entries in the manifest, which a new case of
            another operation does not change.
    """

    sha256: str
    by_case: Mapping[str, Golden]
    by_operation: Mapping[str, str] = field(default_factory=dict)

    def of(self, case: AnyCase) -> Golden:
        """Returns the golden of a case of the suite, or solves a case from outside."""
        golden = self.by_case.get(case.id)
        return golden if golden is not None else solve(case)


def read_files(folder: Path = FOLDER) -> dict[str, bytes]:
    """Reads every file in the folder, by name.

    A folder, a pipe or a link to nowhere is there with no bytes: `load` finds it extra or damaged.

    Raises:
        UsageError: if there is no such folder, or a file cannot be read.
    """
    place = folder if folder.is_dir() else _beside(folder, "old")
    if not place.is_dir():
        raise UsageError(f"goldens: {folder} is missing; `conformance regen` makes it")
    return {
        path.name: read_bytes(path, f"goldens/{path.name}") if path.is_file() else b""
        for path in sorted(place.iterdir())
    }


@cache
def installed() -> Goldens:
    """Reads and verifies the goldens of the suite's own cases, once in a process; see `load`."""
    return load(all_cases())


def load(cases: Iterable[AnyCase], folder: Path = FOLDER) -> Goldens:
    """Reads and verifies every golden before any check runs.

    Raises:
        UsageError: names the first file, tensor or case that is damaged, missing, extra or edited.
    """
    files = read_files(folder)
    manifest = _manifest(files)
    tensors = {name: _tensors(name, files, entry) for name, entry in manifest.files.items()}
    for name in files:
        if name != MANIFEST and name not in manifest.files:
            raise _spoilt(name, "is extra: the manifest does not name it")
    by_case = {}
    expected = {case.id: case for case in cases}
    for name in manifest.cases:
        if name not in expected:
            raise _spoilt(MANIFEST, f"has a case {name!r:.80} that the suite does not have")
    for name, case in expected.items():
        if name not in manifest.cases:
            raise _spoilt(MANIFEST, f"lacks the case {name}")
        entry = checked(manifest.cases[name], CaseEntry, f"goldens/{MANIFEST}: {name}")
        _same_question(case, manifest.cases[name])
        by_case[name] = _golden(case, entry, tensors)
    for name, content in tensors.items():
        if content:
            raise _spoilt(MANIFEST, f"is edited: {next(iter(content))} of {name} is of no case")
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    return Goldens(digest, by_case, _by_operation(manifest.cases))


def _by_operation(entries: Mapping[str, Any]) -> dict[str, str]:
    parts: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        parts.setdefault(name.partition(":")[0], {})[name] = entry
    return {
        operation: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
        for operation, part in parts.items()
    }


def _spoilt(name: str, damage: str) -> UsageError:
    return UsageError(f"goldens/{name} {damage}; `conformance regen` mends it")


def _manifest(files: Mapping[str, bytes]) -> Manifest:
    if MANIFEST not in files:
        raise _spoilt(MANIFEST, "is missing")
    try:
        content = parse_json(files[MANIFEST], f"goldens/{MANIFEST}")
        written = content.get("format") if isinstance(content, dict) else None
        if isinstance(written, int) and written != FORMAT:
            raise _spoilt(MANIFEST, f"has format {written}, not {FORMAT}")
        manifest = checked(content, Manifest, f"goldens/{MANIFEST}")
    except UnicodeDecodeError as error:
        raise _spoilt(MANIFEST, f"is damaged ({error})") from error
    if _manifest_bytes(content["files"], content["cases"]) != files[MANIFEST]:
        raise _spoilt(MANIFEST, "is edited or truncated: `regen` would not write it so")
    return manifest


def _tensors(name: str, files: Mapping[str, bytes], entry: FileEntry) -> dict[str, Any]:
    if name not in files:
        raise _spoilt(name, "is missing")
    raw = files[name]
    if len(raw) != entry.bytes:
        raise _spoilt(name, f"has {len(raw)} bytes, not {entry.bytes}: truncated or grown")
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise _spoilt(name, "is damaged or edited: its SHA-256 is not the manifest's")
    try:
        return dict(safetensors.deserialize(raw))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise _spoilt(name, f"is no safetensors file ({error})") from error


def _same_question(case: AnyCase, entry: Mapping[str, Any]) -> None:
    expected = {
        "operation": case.operation,
        "family": case.family,
        "clauses": list(case.clauses),
        "parameters": case.parameters(),
        "promises": list(case.promises),
        "frameworks": list(case.frameworks),
        "asked_of": list(case.asked_of),
        "refusal": vars(case.refusal) if case.refusal else None,
        "tier": case.tier,
    }
    # As JSON: 2.0 and true are equal to other numbers, and are edits all the same.
    if json.dumps({key: entry.get(key) for key in expected}) == json.dumps(expected):
        return
    for key, value in expected.items():
        if json.dumps(entry.get(key)) != json.dumps(value):
            raise _spoilt(MANIFEST, f"is edited or out of date: {key} of {case.id}")


def _golden(case: AnyCase, entry: CaseEntry, tensors: Mapping[str, Any]) -> Golden:
    if case.on_the_fly:
        return Golden({}, {}, hashes={name: array.sha256 for name, array in entry.answers.items()})
    parts = {"input": entry.inputs, "answer": entry.answers, "bound": entry.bounds}
    inputs, answers, bounds = (
        {
            name: _array(case, name, f"{case.name}/{kind}/{name}", array, tensors)
            for name, array in part.items()
        }
        for kind, part in parts.items()
    )
    return Golden(inputs, answers, bounds, certificate=entry.certificate)


def _array(
    case: AnyCase, name: str, tensor: str, entry: ArrayEntry, tensors: Mapping[str, Any]
) -> np.ndarray:
    """Takes an array out of the tensors that are left."""
    stored = tensors.get(entry.file or "", {}).pop(entry.tensor, None)
    if stored is None or entry.tensor != tensor:
        # The hash of the file is right, so the manifest was edited.
        raise _spoilt(MANIFEST, f"is edited: tensor {entry.tensor} of {case.id}")
    dtype = DTYPES.get(entry.dtype)
    if dtype is None or stored["dtype"] != dtype.stored:
        raise _spoilt(MANIFEST, f"is edited: dtype of {name} of {case.id}")
    if stored["shape"] != [*entry.shape, *([2] if dtype.parts > 1 else [])]:
        raise _spoilt(MANIFEST, f"is edited: shape of {name} of {case.id}")
    array = np.frombuffer(stored["data"], dtype=dtype.carrier).reshape(entry.shape)
    if sha256_of(array) != entry.sha256:
        raise _spoilt(MANIFEST, f"is edited: SHA-256 of {name} of {case.id}")
    return array
