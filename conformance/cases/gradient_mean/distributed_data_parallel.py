"""What DistributedDataParallel does, beside the averages: a case or more a clause."""

from conformance.cases.gradient_mean import ddp_around, ddp_article, ddp_averages
from conformance.cases.gradient_mean.ddp_making import BehaviourCase


def cases() -> tuple[BehaviourCase, ...]:
    """Every case about DistributedDataParallel and DistributedSampler."""
    families = (*ddp_averages.FAMILIES, *ddp_around.FAMILIES, *ddp_article.FAMILIES)
    return tuple(case for family in families for case in family())
