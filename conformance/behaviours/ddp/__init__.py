"""Behaviours of DistributedDataParallel and DistributedSampler: cases, models and probes.

This room knows the clauses D and DA. It must not know DataParallel's own clauses, nor JAX.
"""
