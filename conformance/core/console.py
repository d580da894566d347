"""Output to a terminal or a pipe: tables at their full width."""

from rich.console import Console

# At this width no implementation's name is cut short.
WIDTH = 160


def unfolded(console: Console, width: int = WIDTH) -> Console:
    """Returns a console that does not wrap tables when the output is piped."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=width, no_color=True, highlight=False)
