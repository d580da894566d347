"""What the suite needs of NumPy, as the other frameworks' rooms have it.

It is the shortest bridge, and the one to read first. It must not know any operation.
"""
