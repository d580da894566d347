"""Whatever code from outside does, it changes no verdict but its own, and nothing here."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from conformance.core.checks import all_checks
from conformance.run.adapters import declared_by
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.subjects import all_cases
from tests.harm.campaign import COPIES, SHUFFLE

HEAD = "import os, signal, sys, threading, time\nimport conformance\nimport numpy as np\n"
CASE = "grid-c6-g2"


@pytest.fixture(scope="module")
def examiner():
    examiner = Examiner(installed(), timeout=30)
    yield examiner
    examiner.close()


@pytest.fixture
def declare(tmp_path):
    """Declares adapters: functions of x and groups by name, after lines of their file."""

    def declare(functions, framework="numpy", top=""):
        imports = {"torch": "import torch\n", "jax": "import jax\n"}.get(framework, "")
        text = HEAD + imports + top + "\n" + SHUFFLE.format(copy=COPIES[framework])
        for name, body in functions.items():
            lines = "".join(f"    {line.removeprefix('    ')}\n" for line in body.split("\n"))
            text += f'@conformance.implementation("channel_shuffle", framework="{framework}")\n'
            text += f"def {name}(x, groups):\n{lines}"
        file = tmp_path / "mine.py"
        file.write_text(text)
        return {one.name: one for one in declared_by(str(file), 60)}

    return declare


def verdict(examiner, declared, case=CASE):
    [check] = [
        check for check in all_checks([declared], all_cases(), ["cpu"]) if check.case.name == case
    ]
    return examiner.examine(check)[0]


RIGHT = "return shuffled(x, groups)"
WRITE_TO_ALL = """for descriptor in range(3, 256):
        try: os.write(descriptor, b'A' * 64)
        except OSError: pass
    return shuffled(x, groups)"""


def test_a_wrong_implementation_is_wrong_also_after_one_that_changes_a_default(examiner, declare):
    pytest.importorskip("torch")
    order = "torch.arange(x.shape[1]).reshape(groups, -1).T.reshape(-1)"
    declared = declare(
        {
            "first": "torch.set_default_dtype(torch.float64)\nreturn shuffled(x, groups)",
            "second": f"return torch.einsum('oc,nc...->no...', torch.eye(x.shape[1])[{order}], x)",
        },
        "torch",
    )
    assert verdict(examiner, declared["first"], "dtype-f64-c6-g2").status == "exact"
    assert verdict(examiner, declared["second"], "dtype-f64-c6-g2").status == "error"


def test_what_an_import_switches_off_is_on_again_for_each_check(examiner, declare):
    pytest.importorskip("jax")
    top = "jax.config.update('jax_enable_x64', False)"
    declared = declare({"mine": RIGHT}, "jax", top)
    assert verdict(examiner, declared["mine"], "dtype-f64-c6-g2").status == "exact"


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        ("return x.astype(object)", "error", "gave an array of dtype object"),
        ("return x.astype('M8[s]')", "error", "gave an array of dtype datetime64[s]"),
        ("return np.zeros(1 << 24)", "error", "gave 134217728 bytes, where no answer has more"),
        (WRITE_TO_ALL, "crash", "it wrote to the socket by which the suite asks it"),
        ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(5)", "crash", "its fork server"),
        ("os.kill(os.getppid(), signal.SIGSTOP); return shuffled(x, groups)", "exact", ""),
    ],
)
def test_what_is_sent_or_killed_costs_its_own_check_with_one_reason(
    examiner, declare, lines, status, words
):
    declared = declare({"harmful": lines, "innocent": RIGHT})
    harmful = verdict(examiner, declared["harmful"])
    assert harmful.status == status, harmful.reason
    assert words in harmful.reason
    assert verdict(examiner, declared["innocent"]).status == "exact"


def test_an_array_that_pickles_as_a_call_is_an_array_and_calls_nothing(examiner, declare, tmp_path):
    top = (
        "class Calling(np.ndarray):\n"
        f"    def __reduce__(self): return os.mkdir, ({str(tmp_path / 'executed')!r},)\n"
        "    def copy(self, *_): return self"
    )
    declared = declare({"mine": "return shuffled(x, groups).view(Calling)"}, top=top)
    assert verdict(examiner, declared["mine"]).status == "exact"
    assert not (tmp_path / "executed").exists()


def test_an_import_changes_nothing_in_the_process_that_judges(examiner, declare):
    before = (Path.cwd(), dict(os.environ), threading.active_count(), np.array_equal)
    top = (
        "os.chdir('/'); os.environ['HARM'] = '1'; np.array_equal = lambda *_, **__: True\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()"
    )
    declared = declare({"wrong": "return x.copy()", "right": RIGHT}, top=top)
    assert (Path.cwd(), dict(os.environ), threading.active_count(), np.array_equal) == before
    assert verdict(examiner, declared["wrong"]).status == "fail"
    assert verdict(examiner, declared["right"]).status == "exact"
