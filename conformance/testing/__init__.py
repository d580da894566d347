"""The suite inside pytest: the plugin, and golden cases for a project's own tests.

The plugin, which pytest always loads, must import nothing of the suite until a test needs it.
"""
