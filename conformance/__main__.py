"""`conformance`, and `python -m conformance`: entered before anything that takes long is imported.

While Python imports the suite nothing has begun, and Ctrl-C ends the process as it ends any other:
by the signal, without a traceback.
"""

import os
import signal
import sys


def main() -> None:
    """Runs the command line."""
    is_armed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_armed:  # It is not where it is ignored, as behind `&` in a script.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from conformance import cli

    cli.main(is_armed=is_armed)


if __name__ == "__main__":
    # `-m` lets a file of the working folder hide a framework; as `conformance`, it comes last.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109
        del sys.path[0]
    main()
