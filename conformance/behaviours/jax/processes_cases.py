"""Cases about JAX over two processes, with two or four devices each."""

from conformance.core.questions import BehaviourQuestion, Case

PROCESSES = 2
# Each process has so many devices.
DEVICES = (2, 4)


def cases() -> tuple[Case[BehaviourQuestion], ...]:
    """Returns all cases; a shard is a power of two of samples, so that no mean rounds."""
    return tuple(
        Case(
            operation="gradient_mean",
            name=f"jax-processes-mean-d{devices}-n{count}",
            family="jax-processes",
            about=(
                f"{PROCESSES} processes with {devices} devices each, {count} samples on a device: "
                "both ways leave the mean over all of them on every device."
            ),
            clauses=("J7", "J11"),
            question=BehaviourQuestion(
                "jax_processes.mean", _arguments(devices, count), ranks=PROCESSES
            ),
            asked_of=("jax_shard_map",),
        )
        for devices in DEVICES
        for count in (1, 2, 4)
    )


def devices_of(question: BehaviourQuestion) -> int:
    """Returns how many devices each process needs."""
    return int(dict(question.arguments)["devices"])


def _arguments(devices: int, samples: int) -> tuple[tuple[str, object], ...]:
    total = samples * PROCESSES * devices
    inputs = tuple((float(b % 3 - 1), float(b % 5), float(2 - b)) for b in range(total))
    targets = tuple(float(b * b % 7) for b in range(total))
    return (
        ("devices", devices),
        ("weights", (3.0, -2.0, 1.0)),
        ("inputs", inputs),
        ("targets", targets),
    )
