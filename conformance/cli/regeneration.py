"""Makes the goldens again, and compares them with the stored goldens."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.core.checks import Pattern
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.report.progress import counted
from conformance.run.goldens import FOLDER, MANIFEST, read_files, render, rendered_manifest, write
from conformance.subjects import all_cases

Say = Callable[[str], None]


def regen(
    patterns: Sequence[str], *, check: bool, say: Say = lambda _: None, folder: Path = FOLDER
) -> list[str]:
    """Makes the goldens of the families that the patterns match; writes or only compares them.

    Returns:
        A line for each file that differs from the stored file.

    Raises:
        UsageError: if a pattern matches no case, or the other families' goldens cannot be kept.
    """
    families = _families(patterns)
    chosen = [case for case in all_cases() if not patterns or _family(case) in families]
    fresh = render(chosen, counted(len(chosen), say))
    stored = read_files(folder) if folder.is_dir() else {}
    if patterns:
        fresh = _merged(fresh, stored, families)
    differing = [
        f"goldens/{name} {'is missing' if name not in stored else 'differs'}"
        for name, raw in fresh.items()
        if stored.get(name) != raw
    ] + [f"goldens/{name} is extra" for name in stored if name not in fresh]
    if differing and not check:
        write(fresh, folder)
    return differing


def _families(patterns: Sequence[str]) -> frozenset[str]:
    families: set[str] = set()
    for text in patterns:
        pattern = Pattern.parse(text)
        matching = {_family(case) for case in all_cases() if pattern.takes_case(case)}
        if not matching:
            raise UsageError(f"no case matches {text!r}; `conformance list cases` names them")
        families |= matching
    return frozenset(families)


def _family(case: AnyCase) -> str:
    return f"{case.operation}-{case.family}"


def _merged(
    fresh: Mapping[str, bytes], stored: Mapping[str, bytes], families: frozenset[str]
) -> dict[str, bytes]:
    """Returns the fresh families, and the other families as they are stored."""
    try:
        old: dict[str, Any] = json.loads(stored[MANIFEST])
        new: dict[str, Any] = json.loads(fresh[MANIFEST])
        unchanged = {
            n: raw for n, raw in stored.items() if n.removesuffix(".safetensors") not in families
        }
        unchanged.pop(MANIFEST, None)
        cases = {
            case.id: (new if _family(case) in families else old)["cases"][case.id]
            for case in all_cases()
        }
    except (KeyError, ValueError) as error:
        raise UsageError(
            "goldens/manifest.json cannot be kept as it is; `conformance regen` without a pattern "
            "makes everything"
        ) from error
    files = dict(sorted({**unchanged, **{n: r for n, r in fresh.items() if n != MANIFEST}}.items()))
    return {**files, MANIFEST: rendered_manifest(files, cases)}
