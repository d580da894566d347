"""What JAX's arrays, shardings and processes do: cases, models and probes side by side.

It knows the clauses J1 onwards. It must not know torch.
"""
