"""The bridge between torch and NumPy, torch's devices, and DataParallel on the host.

Only this room, the probes and the rank modules import torch. It must not know any operation.
"""
