"""A run whose every text is an attack on its reader, and whose every number is none."""

from conformance.run.results import Run
from tests.report.records import ENVIRONMENT, record

NASTY = "</script><script>window.hacked=1</script><img src=x onerror=hacked=1>\"'&\n\u202ee\u2028"
NAMES = (NASTY, "🦆", "{{ 7*7 }}", "'; touch hacked; '", "=cmd|' /C calc'!A0", "a\x00b\udc80", "")


def run(finished=True):
    """One failing check of each name, with values that are no numbers."""
    records = [
        record(
            name,
            f"case {name}",
            name or None,
            "fail",
            mistake=name,
            reason=name,
            fits=(name,),
            error_over_bound=float("nan") if number % 2 else float("inf"),
            promise=name,
        )
        for number, name in enumerate(NAMES)
    ]
    records.append(record("late", "x", None, "timeout", error_over_bound=10**400))
    records += [
        record("near", str(ratio), "1", "within-bound", error_over_bound=ratio)
        for ratio in (float("nan"), float("inf"), 10**400, -1.0, 0.5)
    ]
    header = {
        "checks": len(records),
        "started": NASTY,
        "goldens": NASTY,
        "environment": {**ENVIRONMENT, "adapters": [NASTY, "/etc/passwd"]},
    }
    return Run(header, tuple(records), {} if finished else None)
