"""What the frameworks' own classes do beside the values: cases, models and probes.

A probe asks the framework; the model of its name says without one what the answer must be.
This room must not know how a check reaches the framework's process, nor how a run is reported.
"""
