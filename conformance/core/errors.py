"""The one exception that the command line turns into a line and exit status 2."""


class UsageError(Exception):
    """The call or its input was wrong; the message is one line that says what would be right."""
