"""Behaviours of JAX's arrays, shardings and processes: cases, models and probes side by side.

This room knows the clauses J. It must not know torch.
"""
