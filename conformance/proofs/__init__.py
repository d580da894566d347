"""What proves that the suite sees: the kill matrix, margins of bounds, fuzz, generated mutants.

This room asks the suite about itself, and knows all that a run knows. No run needs it.
"""
