"""What the suite needs of torch: the bridge to NumPy, devices, and DataParallel on the host.

Only this room, the probes and the rank modules import torch. It must not know any operation.
"""
