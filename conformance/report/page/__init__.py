"""The page: one HTML file that asks nothing of a network, made of the summary of a run.

What the run does not hold (a case's words, its inputs and right answer, an implementation's source)
comes from the suite that makes the page. The data stands in the page once, as JSON that no browser
executes; a content security policy forbids all other scripts and every request.
"""

import base64
import hashlib
import json
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from conformance.core.verdict import ASIDE, NOT_CONFORMING
from conformance.report.comparison import legend, tally
from conformance.report.page import charts, tables
from conformance.report.page.status_signs import SIGNS, WORDS, address
from conformance.report.summary import Reason, Summary

NAME = "index.html"
_NAMED = 5  # Implementations beside a reason.
_REASONS = 200
_KINDS = {"conforms": "pass", "fails": "fail", "cut short": "cut", "nothing tested": "cut"}


def is_possible() -> bool:
    """Says whether Jinja2, which makes the page, is installed."""
    return find_spec("jinja2") is not None


def text(summary: Summary) -> str:
    """Makes the page, whole.

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
    environment.filters["address"] = address
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        **_overview(summary),
        style=_raw(style),
        script=_raw(script),
        script_hash=digest,
        data=_raw(embedded(tables.of(summary.run))),
    )


def _raw(words: str) -> Any:
    from markupsafe import Markup

    return Markup(words)  # noqa: S704 - our own style and script, and JSON without a <


def embedded(content: Any) -> str:
    r"""Writes JSON that may stand inside a script element: nothing in it ends the element.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    written = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _overview(summary: Summary) -> dict[str, Any]:
    """Returns what stands in the page before any script runs."""
    return {
        "verdict": summary.headline,
        "kind": _KINDS[summary.kind],
        "total": summary.total,
        "counts": [
            {
                "status": status,
                "count": count,
                "sign": SIGNS[status],
                "words": WORDS[status],
                "owners": _owners_of(summary, status),
                "share": 100 * count / summary.total,
                "is_bad": status in NOT_CONFORMING,
            }
            for status, count in summary.run.counts.items()
        ],
        "findings": [
            {"owner": finding.owner, "sentence": finding.reading, "advice": finding.advice}
            for finding in summary.findings
        ],
        "aside": [_reason(reason) for reason in summary.reasons if reason.status in ASIDE][
            :_REASONS
        ],
        "known": [_reason(reason) for reason in summary.reasons if reason.status == "known"],
        "legend": list(legend(summary.run)) if len(summary.run.runs) > 1 else [],
        "across": tally(summary.comparisons) if summary.comparisons else "",
        "facts": summary.facts,
        "bounds": charts.bounds(summary),
    }


def _owners_of(summary: Summary, status: str) -> str:
    """Counts the implementations that have a check of a status, beside all that there are."""
    count = sum(owner.counts[status] > 0 for owner in summary.owners)
    total = len(summary.owners)
    return f"{count} of {total} implementation{'s' * (total != 1)}"


def _reason(reason: Reason) -> dict[str, Any]:
    """Returns why checks were not tested, or are known to differ, and whose they are."""
    names = list(reason.implementations)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return {
        "status": reason.status,
        "sign": SIGNS[reason.status],
        "reason": reason.words,
        "count": reason.count,
        "who": ", ".join(names[:_NAMED]) + more,
    }
