"""Records of runs that never were."""

from conformance.results import Record


def record(
    implementation, case, answer, status="exact", mistake=None, fits=(), error_over_bound=None
):
    return Record(
        id=f"channel_shuffle/{implementation}@cpu:{case}",
        operation="channel_shuffle",
        implementation=implementation,
        device="cpu",
        case=case,
        clauses=("S1",),
        status=status,
        reason="",
        mistake=mistake,
        error_over_bound=error_over_bound,
        seconds=0.0,
        answer=answer,
        fits=fits,
    )
