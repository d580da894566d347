"""What is asked of JAX over several processes: two of them, with two or four devices each."""

from conformance.core.questions import BehaviourQuestion, Case

PROCESSES = 2
DEVICES = (2, 4)  # of each


def cases() -> tuple[Case[BehaviourQuestion], ...]:
    """All cases; a shard is a power of two of samples, so that no mean rounds."""
    return tuple(
        Case(
            operation="gradient_mean",
            name=f"jax-processes-mean-d{devices}-n{each}",
            family="jax-processes",
            about=(
                f"{PROCESSES} processes with {devices} devices each, {each} samples on a device: "
                "both ways leave the mean over all of them on every device."
            ),
            clauses=("J7", "J11"),
            question=BehaviourQuestion(
                "jax_processes.mean", _arguments(devices, each), ranks=PROCESSES
            ),
            asked_of=("jax_shard_map",),
        )
        for devices in DEVICES
        for each in (1, 2, 4)
    )


def devices_of(question: BehaviourQuestion) -> int:
    """How many devices each process needs."""
    return int(dict(question.arguments)["devices"])


def _arguments(devices: int, each: int) -> tuple[tuple[str, object], ...]:
    samples = each * PROCESSES * devices
    inputs = tuple((float(b % 3 - 1), float(b % 5), float(2 - b)) for b in range(samples))
    targets = tuple(float(b * b % 7) for b in range(samples))
    return (
        ("devices", devices),
        ("weights", (3.0, -2.0, 1.0)),
        ("inputs", inputs),
        ("targets", targets),
    )
