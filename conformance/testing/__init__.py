"""The suite inside pytest: what the plugin does, and golden cases for a project's own tests.

The plugin itself, which pytest always loads, is `pytest_conformance.py` beside this package.
"""
