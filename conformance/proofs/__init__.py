"""What proves that the suite sees: the kill matrix, the margins of bounds, fuzzing, generated mutants.

This room asks the suite about itself, and knows all that a run knows. No run needs it.
"""
