"""The page: one HTML file that asks nothing of a network, made of a run alone.

What the run does not hold (a case's words, its inputs and right answer, an implementation's source)
comes from the suite that makes the page. The data is in the page once, as JSON that no browser
executes; a content security policy forbids all other scripts and every request.
"""

import base64
import hashlib
import json
from collections import Counter
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from conformance.core.console import visible
from conformance.core.verdict import ASIDE, NOT_CONFORMING, STATUSES
from conformance.report.comparison import comparisons, cut_short, legend, tally
from conformance.report.page import charts, tables
from conformance.report.page.signs import SIGNS, WORDS, address
from conformance.report.summary import findings
from conformance.run.results import Run

NAME = "index.html"
_NAMED = 5  # implementations beside a reason
_REASONS = 200


def is_possible() -> bool:
    """Whether Jinja2, which the page is made with, is installed."""
    return find_spec("jinja2") is not None


def text(run: Run) -> str:
    """The page, whole.

    Raises:
        ModuleNotFoundError: if Jinja2 is not installed.
    """
    import jinja2

    here = files(__name__)
    script, style, template = (
        (here / name).read_text(encoding="utf-8") for name in ("page.js", "page.css", "page.html")
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"visible": visible, "address": address}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        **_told(run),
        style=_raw(style),
        script=_raw(script),
        script_hash=digest,
        data=_raw(embedded(tables.of(run))),
    )


def _raw(words: str) -> Any:
    from markupsafe import Markup

    return Markup(words)  # noqa: S704 - our own style and script, and JSON without a <


def embedded(content: Any) -> str:
    r"""JSON that may stand inside a script element: nothing in it ends the element.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    told = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _told(run: Run) -> dict[str, Any]:
    """What stands in the page before any script runs."""
    failed = sum(not record.conforms for record in run.records)
    found = comparisons(run)
    return {
        "verdict": _verdict(run, failed),
        "kind": "cut" if run.footer is None else "fail" if failed else "pass",
        "total": len(run.records),
        "counts": [
            {
                "status": status,
                "count": run.counts[status],
                "sign": SIGNS[status],
                "words": WORDS[status],
                "share": 100 * run.counts[status] / len(run.records),
                "is_bad": status in NOT_CONFORMING,
            }
            for status in STATUSES
            if status in run.counts
        ],
        "findings": _findings(run),
        "aside": _aside(run, *ASIDE),
        "known": _aside(run, "known"),
        "legend": list(legend(run)),
        "across": tally(found) if found else "",
        "facts": _facts(run),
        "bounds": charts.bounds(run.records),
    }


def _verdict(run: Run, failed: int) -> str:
    many = len(run.records)
    if run.footer is None:
        return f"{cut_short(run)}{f'; {failed} do not conform' if failed else ''}"
    if failed:
        return f"Does not conform: {failed} of {many} checks"
    return f"Conforms: {many} checks" if many else "Nothing was asked"


def _findings(run: Run) -> list[dict[str, Any]]:
    """The sentence on each implementation that does not conform, and what to write instead."""
    from conformance.subjects import catalogue

    advice = {mistake.name: mistake.advice for mistake in catalogue()}
    return [
        {
            "owner": one.owner,
            "failed": one.failed,
            "asked": one.asked,
            "sentence": one.sentence.removeprefix(one.owner).strip(),
            "advice": advice.get(one.mistake or "", ""),
        }
        for one in findings(run.records)
    ]


def _aside(run: Run, *statuses: str) -> list[dict[str, Any]]:
    """Why checks came to these statuses, the most frequent reason first, and whose they are."""
    who: dict[tuple[str, str], Counter[str]] = {}
    for record in run.records:
        if record.status in statuses:
            found = who.setdefault((record.status, record.reason), Counter())
            found[record.implementation] += 1
    return [
        {
            "status": status,
            "sign": SIGNS[status],
            "reason": reason,
            "count": names.total(),
            "who": ", ".join(list(names)[:_NAMED])
            + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""),
        }
        for (status, reason), names in sorted(who.items(), key=lambda item: -item[1].total())
    ][:_REASONS]


def _facts(run: Run) -> list[tuple[str, str]]:
    """On what the run was made."""
    environment = run.header.get("environment", {})
    if not isinstance(environment, dict):
        environment = {}
    packages = environment.get("packages") or {}
    told = [
        ("started", run.header.get("started")),
        ("system", environment.get("system") or environment.get("platform")),
        ("Python", environment.get("python")),
        *(packages.items() if isinstance(packages, dict) else ()),
        ("suite", run.header.get("suite")),
        ("goldens", str(run.header.get("goldens"))[:12]),
        ("shard", run.header.get("shard")),
        ("adapters", ", ".join(map(str, environment.get("adapters") or ()))),
    ]
    return [(str(name), str(value)) for name, value in told if value]
