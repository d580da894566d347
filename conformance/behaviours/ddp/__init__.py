"""What DistributedDataParallel and DistributedSampler do: cases, models and probes side by side.

It knows the clauses D1 to D22. It must not know DataParallel or JAX.
"""
