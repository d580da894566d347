"""Run a torch script as `__main__` in this process, and weigh its steps.

`python -m conformance.weighing.torch_run FOLDER STEPS [-m] SCRIPT [ARGUMENTS…]` is what
`conformance weigh` starts, by itself or W times by torchrun.
"""

import faulthandler
import json
import os
import runpy
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from torch.optim import Optimizer

from conformance.weighing.gradients import is_apart
from conformance.weighing.records import NOT_COME
from conformance.weighing.torch_exchange import rank_and_world
from conformance.weighing.torch_hooks import Enough, Recorder, Window
from conformance.weighing.torch_step import Weigher

STEPS_FILE, STATUS_FILE, STACKS_FILE = "steps.jsonl", "rank-{}.json", "rank-{}.stacks"


def weigh_script(
    folder: Path, steps: int, script: str, arguments: list[str], *, module: bool
) -> int:
    """Run a script until its steps are weighed; return its exit status.

    Args:
        folder: where rank 0 writes the steps, one line each, as they come.
        steps: to weigh.
        script: a file; or a module's name.
        arguments: of the script.
        module: whether it is a module.
    """
    rank = int(os.environ.get("RANK", "0"))
    began = time.monotonic()
    (folder / f"rank-{rank}.pid").write_text(str(os.getpid()), encoding="utf-8")
    stacks = (folder / STACKS_FILE.format(rank)).open("w")
    if hasattr(signal, "SIGUSR2"):  # by which the launcher asks where a script hangs
        faulthandler.register(signal.SIGUSR2, stacks, all_threads=False)
    weigher = Weigher()

    def write(line: str) -> None:
        if rank_and_world()[0] == 0:
            with (folder / STEPS_FILE).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def weigh(window: Window) -> bool:
        step = weigher.weigh(window, recorder.problems)
        line = json.dumps(step.as_json())
        write(line)
        if step.missed_by or step.problem == NOT_COME:
            weigher.exchange.publish(line)
            raise Enough
        return is_apart(step)

    def look(optimizer: Optimizer, *, at_end: bool = False) -> bool:
        step = weigher.look(optimizer, at_end=at_end)
        write(
            "" if step is None else json.dumps(step.as_json())
        )  # the launcher sees a sign of life
        return step is not None

    recorder = Recorder(weigh, steps, look, weigher.note_pass)
    status, ending = 0, "ended"
    argv, path = sys.argv, sys.path[0]
    sys.argv = [script, *arguments]
    sys.path[0] = os.getcwd() if module else str(Path(script).resolve().parent)  # noqa: PTH109
    try:
        with recorder.watching():
            if module:
                runpy.run_module(script, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(script, run_name="__main__")
    except Enough:
        ending = "stopped"
    except SystemExit as leaving:
        status = _status(leaving)
        ending = "exited"
    except KeyboardInterrupt:
        status, ending = 130, "interrupted"
    except BaseException as error:  # noqa: BLE001 - the script's own error, told as Python tells it
        last_word = weigher.last_word()
        if last_word:  # the others have left, since this rank went past their step
            write(last_word)
            ending = "stopped"
        else:
            status, ending = 1, "raised"
            _print_own(error, script)
    sys.argv, sys.path[0] = argv, path
    if not status and ending != "stopped":
        with suppress(Exception):  # the other ranks may have ended otherwise; nothing more is seen
            for optimizer in recorder.looking:
                look(optimizer, at_end=True)
    _write_status(
        folder / STATUS_FILE.format(rank),
        {
            "status": status,
            "ending": ending,
            "problems": recorder.problems,
            "seconds": round(time.monotonic() - began, 3),
            "ours": round(recorder.seconds, 3),
            "waited": round(weigher.waited, 3),
            "children": _had_children(),
        },
    )
    return status


def _status(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _print_own(error: BaseException, script: str) -> None:
    """Print a script's error without the frames that started the script."""
    frames = error.__traceback__
    own = frames
    while own is not None and own.tb_frame.f_code.co_filename.startswith(
        ("<frozen runpy", __file__)
    ):
        own = own.tb_next
    del script
    # An error of syntax has no frame of the script's: Python tells the line by itself.
    traceback.print_exception(type(error), error, own)


def _had_children() -> bool:
    """Whether the script started processes; those that have ended count as well."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    except (ImportError, OSError):
        return False


def _write_status(file: Path, words: dict[str, object]) -> None:
    file.write_text(json.dumps(words), encoding="utf-8")


def main() -> None:
    """Run what the command line says, and leave without waiting for threads of the script."""
    folder, steps, *rest = sys.argv[1:]
    module = rest[0] == "-m"
    script, *arguments = rest[1:] if module else rest
    status = weigh_script(Path(folder), int(steps), script, arguments, module=module)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if 0 <= status < 256 else 1)


if __name__ == "__main__":
    main()
