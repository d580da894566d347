"""What each item counted for in a training step: somebody's own loop, weighed.

The gradient that an optimizer sees is a weighted sum of what the backward passes gave; this room
reads the weights off one step, with an interval for each, and finds the formula behind them. It
knows the losses' graph, the linear system and the names of mistakes; it must not know the suite's
cases, nor change a bit of what the loop computes. Frameworks are imported by `torch_*.py`,
`in_torch.py` and `in_jax.py` alone.
"""
