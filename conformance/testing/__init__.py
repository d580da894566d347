"""The suite inside pytest: the plugin, and golden cases for a project's own tests.

What pytest loads must import nothing of the suite until a test asks for it.
"""
