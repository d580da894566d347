"""The cases of gradient averaging: the averages, and what the frameworks' own classes do."""

from conformance.cases.case import AnyCase
from conformance.cases.gradient_mean import (
    averages,
    data_parallel,
    distributed_data_parallel,
    jax,
    jax_processes,
    virtual_ranks,
)


def cases() -> tuple[AnyCase, ...]:
    """All cases, in the order in which they are asked."""
    return (
        *averages.families(),
        *data_parallel.cases(),
        *distributed_data_parallel.cases(),
        *jax.cases(),
        *jax_processes.cases(),
        *virtual_ranks.cases(),
    )
