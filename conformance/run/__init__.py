"""A run: its plan, its goldens, the examiner that asks each check, the results that it leaves.

This room knows processes and subjects. It must not know what is made of a run: that is `report`.
"""
