"""The words of everything: questions, implementations, their contract, checks, verdicts.

This room knows NumPy and the standard library. It must not know any operation's right answer,
any framework, or any process: every other room imports it, and it imports none of them.
"""
