"""The bridge between JAX and NumPy, and JAX's devices.

Only this room, the probes and the rank modules import JAX. It must not know any operation.
"""
