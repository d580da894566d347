"""Where a port parts from its original: the first layer, and what its answer shows was done.

Both models get the same weights and the same input; every call of a submodule is captured, forward
and backward. A layer of the second model is held to what the first one's layer makes of *the
second's own* input, so that what parted earlier hides nothing later.
"""
