"""The cases of gradient averaging: the averages, and what the frameworks' own classes do."""

from conformance.behaviours.data_parallel import cases as data_parallel
from conformance.behaviours.jax import cases as jax
from conformance.behaviours.jax import processes_cases as jax_processes
from conformance.cases.gradient_mean import distributed_data_parallel
from conformance.core.questions import AnyCase
from conformance.gradient_mean import cases as averages
from conformance.gradient_mean import virtual_cases as virtual_ranks


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
