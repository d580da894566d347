"""The mean of gradients over ranks: models, right answers and bounds, cases, mistakes, judgement.

The right answers need no framework; `in_torch`, `in_jax` and `in_numpy` call implementations inside
a rank's process. This room must not know channel shuffle, nor how processes are made.
"""
