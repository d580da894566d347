"""The judge: exact comparison, diagnosis, and the verdict that a reader sees."""

from conformance.judge.known import Known
from conformance.judge.verdict import ASIDE, NOT_CONFORMING, RIGHT, STATUSES, Status, Verdict, judge

__all__ = ["ASIDE", "NOT_CONFORMING", "RIGHT", "STATUSES", "Known", "Status", "Verdict", "judge"]
