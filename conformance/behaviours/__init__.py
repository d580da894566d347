"""What the frameworks' own classes do beside the values: cases, a model of each, and a probe of each.

A probe asks the framework; the model of the same name says without any framework what it must answer.
This room must not know how a check reaches the framework's process, nor how a run is reported.
"""
