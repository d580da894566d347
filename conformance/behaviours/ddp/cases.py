"""All cases about DistributedDataParallel and DistributedSampler: a case or more a clause."""

from conformance.behaviours.case_parts import BehaviourCase
from conformance.behaviours.ddp import article_cases as ddp_article
from conformance.behaviours.ddp import averaging_cases as ddp_averages
from conformance.behaviours.ddp import other_cases as ddp_around


def cases() -> tuple[BehaviourCase, ...]:
    """Returns every case about DistributedDataParallel and DistributedSampler."""
    families = (*ddp_averages.FAMILIES, *ddp_around.FAMILIES, *ddp_article.FAMILIES)
    return tuple(case for family in families for case in family())
