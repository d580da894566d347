"""What the suite needs of JAX: the bridge to NumPy, and devices.

Only this room, the probes and the rank modules import JAX. It must not know any operation.
"""
