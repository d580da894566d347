"""The bridge to NumPy: the functions that every framework's room has.

This bridge is the shortest, and is best read first. It must not know any operation.
"""
