"""The judge: exact comparison, diagnosis, and the verdict that a reader sees."""

from conformance.judge.known import Known
from conformance.judge.verdict import NOT_CONFORMING, STATUSES, Status, Verdict, judge

__all__ = ["NOT_CONFORMING", "STATUSES", "Known", "Status", "Verdict", "judge"]
