"""A run: its plan, its goldens, the examiner that asks each check, and its results.

This room knows processes and subjects. It must not know how `report` shows a run.
"""
