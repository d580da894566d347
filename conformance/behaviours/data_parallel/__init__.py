"""Behaviours of `torch.nn.DataParallel`, clause by clause: cases, models and probes side by side.

This room knows the clauses P and PA. It must not know DistributedDataParallel or JAX.
"""
