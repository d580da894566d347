"""Behaviours of the frameworks' own classes beside the values: cases, models and probes.

A probe asks the framework; the model of its name says without a framework what it must answer.
This room must not know how a check reaches the framework's process, nor how a run is reported.
"""
