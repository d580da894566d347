"""Models of what frameworks' own classes must answer to each probe, without any framework."""

from types import ModuleType
from typing import cast

import numpy as np

from conformance.behaviours.data_parallel import article_model as data_parallel_article
from conformance.behaviours.data_parallel import model as data_parallel
from conformance.behaviours.data_parallel import training_model as data_parallel_training
from conformance.behaviours.ddp import article_model as ddp_article
from conformance.behaviours.ddp import averaging_model as ddp_averaging
from conformance.behaviours.ddp import buffers_model as ddp_buffers
from conformance.behaviours.ddp import bypassing_model as ddp_bypassing
from conformance.behaviours.ddp import construction_model as ddp_construction
from conformance.behaviours.ddp import hooks_model as ddp_hooks
from conformance.behaviours.ddp import parts_model as ddp_parts
from conformance.behaviours.ddp import sampler_model as sampler
from conformance.behaviours.ddp import training_model as ddp_training
from conformance.behaviours.jax import arrays_model as jax_arrays
from conformance.behaviours.jax import parallel_model as jax_parallel
from conformance.behaviours.jax import processes_model as jax_processes
from conformance.core.questions import BehaviourQuestion

# By the subject of a probe's name, `subject.function`, as it stands in the goldens.
MODELS: dict[str, ModuleType] = {
    "data_parallel": data_parallel,
    "data_parallel_article": data_parallel_article,
    "data_parallel_training": data_parallel_training,
    "ddp_article": ddp_article,
    "ddp_averaging": ddp_averaging,
    "ddp_buffers": ddp_buffers,
    "ddp_bypassing": ddp_bypassing,
    "ddp_construction": ddp_construction,
    "ddp_hooks": ddp_hooks,
    "ddp_parts": ddp_parts,
    "ddp_training": ddp_training,
    "jax_arrays": jax_arrays,
    "jax_parallel": jax_parallel,
    "jax_processes": jax_processes,
    "sampler": sampler,
}


def answer(question: BehaviourQuestion) -> dict[str, np.ndarray]:
    """Returns the named arrays that a framework must give, the same on every rank."""
    subject, _, function = question.probe.partition(".")
    model = getattr(MODELS[subject], function)
    return cast("dict[str, np.ndarray]", model(**dict(question.arguments)))
