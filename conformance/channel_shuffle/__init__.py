"""Channel shuffle: its definition, its cases, its known mistakes, and how an answer is judged.

The right answer is a permutation of bits, written in NumPy. This room must not know gradients,
and reaches a framework only through the bridges of `conformance.frameworks`.
"""
