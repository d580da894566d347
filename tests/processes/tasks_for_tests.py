"""What the tests of the worlds run in their ranks."""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from conformance.core.outcomes import Answer, Declined, NotExercised, Unsupported, WrongAnswer

prepared = []


def prepare():
    prepared.append(os.getpid())


def prepare_that_raises():
    raise LookupError("no such device")


def echo(payload, rank):
    return payload


def answer(payload, rank):
    return Answer({"doubled": payload * 2})


def decline(payload, rank):
    return Declined("unsupported", "said by hand")


def where_am_i(payload, rank):
    return {
        "pid": os.getpid(),
        "cwd": str(Path.cwd()),
        "path": list(sys.path),
        "prepared": list(prepared),
        "rank": (rank.index, rank.size, rank.group),
        "environment": dict(os.environ),
        "argv": list(sys.argv),
    }


def raise_(payload, rank):
    raise payload


class UnreadableError(ValueError):
    def __str__(self):
        raise RuntimeError("no words")


def raise_unreadable(payload, rank):
    raise UnreadableError


def raise_unsupported(payload, rank):
    raise Unsupported("no complex numbers")


def raise_not_exercised(payload, rank):
    raise NotExercised("one device")


def raise_wrong_answer(payload, rank):
    raise WrongAnswer("a list")


def raise_inside_numpy(payload, rank):
    np.reshape(np.arange(6), payload)  # A function in Python, which calls a method in C.


def exit_by_sys(payload, rank):
    sys.exit(payload)


def exit_by_os(payload, rank):
    os._exit(payload)


def kill_myself(payload, rank):
    os.kill(os.getpid(), payload)
    time.sleep(60)


def segfault(payload, rank):
    ctypes.string_at(0)


def loop(payload, rank):
    while True:
        pass


def print_for_ever(payload, rank):
    """Prints 200 MB and goes on; returns how large its log was when it looked last."""
    sizes = []
    while len(sizes) < payload:
        for _ in range(200):
            os.write(1, b"Conforms: 1 exact\n" * 5_000)
        sizes.append(os.fstat(1).st_size)
        time.sleep(0.2)
    return sizes


def oom_score(payload, rank):
    return int(Path("/proc/self/oom_score_adj").read_text())


def sleep(payload, rank):
    time.sleep(payload)
    return payload


def unpicklable(payload, rank):
    return lambda: payload


class OnlyHere:
    pass


def unreadable_by_the_parent(payload, rank):
    import fractions_for_tests  # a package that the parent never imports

    return fractions_for_tests.Odd()


def shout(payload, rank):
    print(payload, flush=True)
    os.write(1, payload.encode())
    os.write(2, payload.encode())
    return len(payload)


def fork_and_both_return(payload, rank):
    os.fork()
    return payload


_SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
_DAEMON = f"""
import subprocess
print(subprocess.Popen({_SLEEPER!r}, stdout=subprocess.DEVNULL, start_new_session=True).pid)
"""


def leave_processes_behind(payload, rank):
    """The ids of a child in our session, one in its own, and an orphan in its own."""
    near = subprocess.Popen(_SLEEPER)
    far = subprocess.Popen(_SLEEPER, start_new_session=True)
    orphan = subprocess.run([sys.executable, "-c", _DAEMON], stdout=subprocess.PIPE, text=True)
    return [near.pid, far.pid, int(orphan.stdout)]


def leave_processes_behind_and_die(payload, rank):
    Path(payload).write_text(" ".join(map(str, leave_processes_behind(None, rank))))
    os._exit(0)


def leave_a_thread_behind(payload, rank):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "back"


def close_every_descriptor(payload, rank):
    os.closerange(0, 1000)


def write_then_die(payload, rank):
    sys.stderr.write(payload)
    sys.stderr.flush()
    os._exit(9)


def threads_of_the_fork_server(payload, rank):
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def parent(payload, rank):
    return os.getppid()


def has_imported(payload, rank):
    return payload in sys.modules


def harm_my_parent(payload, rank):
    os.kill(os.getppid(), payload)
    time.sleep(0.1)
    return int(payload)


def write_to_every_descriptor(payload, rank):
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(descriptor, payload)


class Calling(np.ndarray):
    """An array that unpickles by writing a file."""

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def an_array_that_pickles_as_a_call(payload, rank):
    array = np.array([1.0, 2.0]).view(Calling)
    array.path = Path(payload)
    return array


def echo_as(payload, rank):
    return np.zeros(2).astype(payload)


def change_something(payload, rank):
    rank.changes.append(payload)
    return "done"
