"""What is asked of JAX over several processes: two of them, with two devices each."""

from conformance.cases.case import BehaviourQuestion, Case

PROCESSES, DEVICES = 2, 2


def cases() -> tuple[Case[BehaviourQuestion], ...]:
    """All cases; a shard is a power of two of samples, so that no mean rounds."""
    return tuple(
        Case(
            operation="gradient_mean",
            name=f"jax-processes-mean-n{each}",
            family="jax-processes",
            about=(
                f"Two processes with two devices each, {each} samples on a device: both ways leave "
                "the mean over all of them on every device."
            ),
            clauses=("J7", "J11"),
            question=BehaviourQuestion("jax_processes.mean", _arguments(each), ranks=PROCESSES),
            asked_of=("jax_shard_map",),
        )
        for each in (1, 2, 4)
    )


def _arguments(each: int) -> tuple[tuple[str, tuple[object, ...]], ...]:
    samples = each * PROCESSES * DEVICES
    inputs = tuple((float(b % 3 - 1), float(b % 5), float(2 - b)) for b in range(samples))
    targets = tuple(float(b * b % 7) for b in range(samples))
    return (("weights", (3.0, -2.0, 1.0)), ("inputs", inputs), ("targets", targets))
