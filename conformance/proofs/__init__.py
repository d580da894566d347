"""Proofs that the suite catches mistakes: kill matrix, margins of bounds, fuzz, generated mutants.

This room tests the suite itself, and knows all that a run knows. No run must need it.
"""
