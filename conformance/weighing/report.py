"""What is kept of weighed steps: weights.json, and a page with pictures that needs no network."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from conformance.core.outside_words import one_line
from conformance.core.report_folder import ReportFolder
from conformance.weighing.heat_map import pictures
from conformance.weighing.text import lines
from conformance.weighing.verdict import TermWeights, Verdict

FORMAT, VERSION = "conformance-weigh", 1
_STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --ink: #1d1c1a; --line: #dcd8d0;
  --pass: #0c634c; --bad: #a82017; --aside: #6d4d00; --panel: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #151517; --ink: #ecebe7; --line: #3a393c;
  --pass: #74d8b2; --bad: #ffa499; --aside: #ecca6c; --panel: #1d1d20; } }
body { margin: 0 auto; max-width: 1100px; padding: 16px 24px 48px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header { border-top: 6px solid var(--tone); padding-top: 12px; }
h1 { font-size: clamp(22px, 4vw, 34px); line-height: 1.2; } h1 span { color: var(--tone); }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px; margin-bottom: 16px; font-family: ui-monospace, monospace; }
section p { margin: 0; padding-left: 3ch; text-indent: -3ch; } .in { margin-left: 2ch; }
figure { display: inline-block; max-width: 100%; overflow-x: auto; margin: 0 16px 16px 0; }
svg { display: block; border-radius: 8px; border: 1px solid var(--line); }
"""


def write(
    folder: ReportFolder, verdicts: Sequence[Verdict], script: str, promise: str | None
) -> list[Path]:
    """Write weights.json and index.html; return the paths of what could be written."""
    text = json.dumps(as_json(verdicts, script, promise), allow_nan=False, ensure_ascii=False)
    files = {"weights.json": text, "index.html": html(verdicts, script, promise)}
    return [folder.path / name for name, words in files.items() if folder.write(name, words)]


def as_json(verdicts: Sequence[Verdict], script: str, promise: str | None) -> dict[str, Any]:
    """Return all that is known, as plain data; docs/explanation/weighing.md has the fields."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "script": script,
        "promise": promise,
        "optimizers": [
            {
                "optimizer": verdict.optimizer,
                "world": verdict.world,
                "verdict": _word(verdict),
                "mistakes": list(verdict.names),
                "findings": [
                    {"step": step, **asdict(finding)} for step, finding in verdict.findings
                ],
                "not_weighed": [[step, problem] for step, problem in verdict.problems],
                "terms": [_term(term) for term in verdict.terms],
                "steps": [step.as_json() for step in verdict.steps],
            }
            for verdict in verdicts
        ],
    }


def _word(verdict: Verdict) -> str:
    if verdict.is_fault:
        return "fail"
    return "conforms" if verdict.is_weighed else "not-exercised"


def _term(term: TermWeights) -> dict[str, Any]:
    return {
        "name": term.term.name,
        "unit": term.term.unit,
        "formula": str(term.reading),
        "mistakes": None if term.names is None else list(term.names),
        "promises": list(term.promises),
        "not_judged": term.note,
        "cells": [
            {
                "step": cell.step,
                "rank": cell.rank,
                "micro_batch": cell.micro_batch,
                "items": cell.count,
                "low": cell.low if isfinite(cell.low) else None,
                "high": cell.high if isfinite(cell.high) else None,
                "samples": cell.samples,
                "places": cell.places,
                "labels": cell.labels,
            }
            for cell in term.cells
        ],
    }


def _line(line: str) -> str:
    """Return a line as a paragraph, whose second row stands further in than its first."""
    kind = ' class="in"' if line.startswith("      ") else ""
    return f"<p{kind}>{escape(line.strip())}</p>"


def html(verdicts: Sequence[Verdict], script: str, promise: str | None) -> str:
    """Return the page, whole; it has no script and asks nothing of a network."""
    told = [one_line(line) for line in lines(verdicts, Path(script).name, promise)]
    words = [_word(verdict) for verdict in verdicts]
    tone = "bad" if "fail" in words else "pass" if set(words) == {"conforms"} else "aside"
    title, rest = (told[0] if told else "nothing was weighed"), told[1:]
    drawn = [picture for v in verdicts for picture in pictures(v.terms, v.world)]
    figures = "\n".join(f"<figure>{picture}</figure>" for picture in drawn)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)} – conformance weigh</title>
<style>{_STYLE} :root {{ --tone: var(--{tone}); }}</style>
</head>
<body>
<header><p>conformance weigh</p>
<h1><span>{escape(title[:1])}</span>{escape(title[1:])}</h1></header>
<main>
<section>
{chr(10).join(map(_line, rest))}
</section>
{figures}
</main>
</body>
</html>
"""
