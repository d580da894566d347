"""The judge: exact comparison, diagnosis, and the verdict that a reader sees."""

from conformance.core.verdict import ASIDE, NOT_CONFORMING, RIGHT, STATUSES, Status, Verdict, judge
from conformance.run.known import Known

__all__ = ["ASIDE", "NOT_CONFORMING", "RIGHT", "STATUSES", "Known", "Status", "Verdict", "judge"]
