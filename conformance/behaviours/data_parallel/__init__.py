"""What `torch.nn.DataParallel` does, clause by clause: cases, models and probes side by side.

It knows the clauses P1 to P15. It must not know DistributedDataParallel or JAX.
"""
