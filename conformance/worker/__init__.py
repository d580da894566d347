"""A run on several machines, joined by whoever launched it: torchrun, or `jax.distributed`.

There is no launcher here. Every process of the launch makes the same plan from the same arguments;
rank 0 judges, writes the results, and leads; the others answer. Whoever dies cuts the run short,
and what was finished stays on disk.
"""
