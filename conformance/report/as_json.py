"""What a run and a diff say, as a JSON object each, for programs."""

from typing import Any

from conformance.report.changes import QUIET, Changes
from conformance.report.summary import Summary


def of_summary(summary: Summary) -> dict[str, Any]:
    """Returns the verdict on a run, what each implementation came to, and every failing check.

    The failing checks are lines of results.jsonl, which has all others too.
    """
    return {
        "verdict": summary.kind,
        "headline": summary.headline,
        "counts": summary.run.counts,
        "environment": summary.run.header.get("environment", {}),
        "implementations": [
            {"id": owner.name, "run": owner.run, "counts": dict(owner.counts)}
            for owner in summary.owners
        ],
        "findings": [
            {
                "id": finding.owner,
                "run": finding.run,
                "failed": finding.failed,
                "mistakes": list(finding.fitting),
                "sentence": finding.sentence,
                "advice": finding.advice,
            }
            for finding in summary.findings
        ],
        "failures": [record.as_object() for record in summary.run.records if not record.conforms],
    }


def of_changes(changes: Changes) -> dict[str, Any]:
    """Returns whether anything got worse, and every check that did not stay the same."""
    return {
        "worse": changes.is_worse,
        "whole": changes.is_whole,
        "compared": changes.compared,
        "changes": [
            {
                "check": change.check,
                "kind": change.kind,
                "before": change.before and change.before.as_object(),
                "after": change.after and change.after.as_object(),
            }
            for change in changes.checks
            if change.kind not in QUIET
        ],
    }
