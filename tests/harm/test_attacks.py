"""Whatever an adapter does, it costs its own checks, with one reason; nobody else's verdict moves.

The whole catalogue takes minutes: `bash ci/run harm` asks it all, and `ci/run test` a part.
"""

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed
from conformance.run.adapters import declared_by
from conformance.run.results import read
from tests.harm import campaign, catalogue
from tests.sampling import IS_FULL, some

SHUFFLE_CASE, AVERAGE_CASE = "grid-c6-g2", "linear-w2-equal-k1-f32"
NUMPY = [*catalogue.STATE, *catalogue.ANSWERS, *catalogue.RAISED, *catalogue.PROCESS]
OF_RANKS_IN_SHORT = ("raises", "leaves", "rank_thread")
# By framework the attacks; the short version asks every second, third or fourth of them.
CATALOGUE = {
    "numpy": some(NUMPY, 2),
    "torch": some(catalogue.TORCH, 4),
    "jax": some(catalogue.JAX, 4),
    "slow": catalogue.SLOW if IS_FULL else catalogue.SLOW[:1],
    "gradient": some(catalogue.GRADIENTS, 3),
    "jaxgradient": some(catalogue.JAX_GRADIENTS, 4),
    "rank": [a for a in catalogue.RANKS if IS_FULL or a.name in OF_RANKS_IN_SHORT],
}
# Right implementations of the suite, asked in the same run.
OWN = {
    "numpy": "channel_shuffle/numpy_reshape:grid-c6-*",
    "torch": "channel_shuffle/torch_reshape:grid-c6-*",
    "jax": "channel_shuffle/jax_gather:grid-c6-*",
    "gradient": "gradient_mean/torch_func_grad:linear-w2-equal-*",
    "jaxgradient": "gradient_mean/jax_vmap_mean:linear-w2-equal-*",
    "rank": "gradient_mean/torch_ddp:linear-w2-*",
}
# Averages: how their file is written.
AVERAGES = {
    "rank": campaign.rank_adapter,
    "gradient": campaign.gradient_adapter,
    "jaxgradient": campaign.jax_gradient_adapter,
}
FRAMEWORKS = {"slow": "numpy", "rank": "torch", "gradient": "torch", "jaxgradient": "jax"}
TIMEOUT, LIMIT = 8.0, 900.0
HARMED = pytest.mark.timeout(1200)


@pytest.fixture(scope="module", params=CATALOGUE)
def attacked(request, tmp_path_factory, counts):
    """A run of all attacks of a kind, beside right implementations."""
    kind, attacks = request.param, CATALOGUE[request.param]
    framework = "numpy" if kind == "slow" else kind
    if not is_installed(FRAMEWORKS.get(kind, kind)):
        pytest.skip(f"{FRAMEWORKS.get(kind, kind)} is not installed")
    folder = tmp_path_factory.mktemp(kind)
    patterns = [OWN[framework]]
    if framework in AVERAGES:
        case, files = AVERAGE_CASE, [AVERAGES[framework](folder, attacks)]
    else:
        case, files = SHUFFLE_CASE, [campaign.adapter(folder, framework, attacks)]
        files.append(campaign.right_adapter(folder, framework))
        patterns.append("channel_shuffle/innocent_*:grid-c6-*")
    patterns += [f"*/harm_{framework}_*:{case}", f"*/{framework}_right_*:{case}"]
    counts["attacks"] = counts.get("attacks", 0) + len(attacks)
    try:
        run = campaign.run(folder, patterns, files, TIMEOUT, LIMIT)
    except subprocess.TimeoutExpired:
        counts["hangs"] += 1
        raise
    return run, campaign.ids_of(framework, attacks, case)


@HARMED
def test_each_attack_costs_its_own_checks_with_one_reason(attacked):
    run, attacks = attacked
    unlike = {
        attack.name: (record and (record.status, record.reason[:200]))
        for check, attack in attacks.items()
        if not campaign.is_as_expected(attack, record := run.records.get(check))
    }
    assert unlike == {}


@HARMED
def test_no_right_implementation_is_accused_beside_them(attacked, counts):
    run, attacks = attacked
    right = {check: record for check, record in run.records.items() if check not in attacks}
    assert len(right) >= len(attacks) / campaign.EVERY
    accused = {
        check: (record.status, record.reason)
        for check, record in right.items()
        if (record.status, record.reason) != ("exact", "")
    }
    counts["verdicts changed"] += len(accused)
    assert accused == {}


@HARMED
def test_the_run_ends_whole_and_leaves_nothing_behind(attacked, counts):
    run, _ = attacked
    printed = campaign.tracebacks(run.errors) + campaign.tracebacks(run.output)
    counts["tracebacks"] += printed
    counts["leftovers"] += len(run.leftovers)
    assert printed == 0, run.errors
    assert run.leftovers == []
    assert run.is_whole
    assert run.status == 1


@HARMED
def test_files_that_do_harm_as_they_are_imported_are_asked_like_others(tmp_path, counts):
    tops = catalogue.LIVED_IMPORTS
    files = [
        campaign.right_adapter(tmp_path, "numpy", top, f"lived_{number}")
        for number, top in enumerate(tops)
    ]
    patterns = [f"*/lived_*:{SHUFFLE_CASE}", "*/numpy_reshape:grid-c6-*"]
    run = campaign.run(tmp_path, patterns, files, TIMEOUT, LIMIT)
    counts["attacks"] += len(tops)
    counts["leftovers"] += len(run.leftovers)
    assert {check: r.reason for check, r in run.records.items() if r.status != "exact"} == {}
    assert len(run.records) == len(tops) + 4
    assert (run.status, run.leftovers) == (0, [])


@pytest.mark.parametrize("lines", catalogue.REPORT if IS_FULL else catalogue.REPORT[:2])
def test_what_is_done_to_the_report_folder_costs_no_verdict(cli, tmp_path, lines, counts):
    attack = catalogue.Attack("on_report", "exact", "", lines)
    file = campaign.adapter(tmp_path, "numpy", [attack])
    patterns = (f"*/harm_numpy_on_report:{SHUFFLE_CASE}", "*/numpy_reshape:grid-c6-*")
    done = cli("run", *patterns, "--adapter", file, "--report", "report", "--jobs", "1")
    counts["attacks"] += 1
    printed = campaign.tracebacks(done.stderr) + campaign.tracebacks(done.stdout)
    counts["tracebacks"] += printed
    assert printed == 0, done.stderr
    assert (done.returncode, "Conforms: 5 exact" in done.stdout) == (0, True), done.stdout
    # Who may write anywhere, as root may, writes into a folder of mode 500 too.
    if "chmod" not in lines:
        assert "report folder report: not written: " in done.stderr, done.stderr


@pytest.mark.parametrize("lines", catalogue.FILES)
def test_files_that_are_removed_cost_nobody_else(tmp_path, cli, lines, counts):
    attack = catalogue.Attack("on_files", "exact", "", lines)
    files = [campaign.adapter(tmp_path, "numpy", [attack])]
    files.append(campaign.right_adapter(tmp_path, "numpy"))
    patterns = ["*/harm_numpy_on_files:grid-c6-*", "*/*innocent_numpy:grid-c6-*"]
    (tmp_path / "here").mkdir()
    (tmp_path / "tmp").mkdir()
    options = [part for file in files for part in ("--adapter", file)]
    done = cli(
        *("run", *patterns, *options, "--report", tmp_path / "report"),
        cwd=tmp_path / "here",
        TMPDIR=str(tmp_path / "tmp"),
    )
    counts["attacks"] += 1
    assert campaign.tracebacks(done.stderr) == 0, done.stderr
    records = read(tmp_path / "report").records
    right = [record for record in records if "innocent" in record.id]
    assert len(right) == 4
    assert {record.reason for record in right if record.status != "exact"} == set()


def test_where_the_working_folder_is_gone_nothing_else_stands_in_its_place(tmp_path, cli):
    """Code that removes its working folder would go on with whatever stood there: with all of /."""
    (tmp_path / "here").mkdir()
    (tmp_path / "mine.py").write_text(
        "import os, shutil\nimport conformance\n"
        f"with open({str(tmp_path / 'folders')!r}, 'a') as file:\n"
        "    file.write(os.getcwd() + '\\n')\n"
        "if os.getcwd().endswith('/here'):\n"
        "    shutil.rmtree(os.getcwd())\n\n"
        '@conformance.implementation("channel_shuffle", framework="numpy")\n'
        "def mine(x, groups):\n"
        "    return x.copy()\n"
    )
    cli("run", "--adapter", tmp_path / "mine.py", "channel_shuffle/mine:grid-c6-g*",
        "--report", tmp_path / "report", cwd=tmp_path / "here")  # fmt: skip
    first, *others = (tmp_path / "folders").read_text().split()
    assert first == str(tmp_path / "here")
    assert others
    assert set(others) == {"/proc"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
def test_an_adapter_that_is_no_file_is_one_line(tmp_path, cli, kind):
    file = tmp_path / "mine.py"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
        case "device":
            file.symlink_to("/dev/zero")
    done = cli("run", "*/mine", "--adapter", file)
    assert done.returncode == 2
    assert done.stderr == f"conformance: adapter {file}: no such file\n"


@pytest.fixture
def unchanged():
    """Asserts that this process, which would judge, is as it was."""

    def state():
        return (
            Path.cwd(),
            {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            threading.active_count(),
            np.array_equal,
            signal.getsignal(signal.SIGTERM),
        )

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize(("top", "words"), catalogue.IMPORTS, ids=lambda value: value[:30])
def test_an_import_that_does_not_end_well_is_one_line(tmp_path, top, words, unchanged, counts):
    file = tmp_path / "mine.py"
    file.write_text(f"{campaign.HEAD}{top}\n")
    counts["attacks"] += 1
    with pytest.raises(UsageError) as refused:
        declared_by(str(file), 60)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    # The line where the file ends badly is named, where it is one of its own.
    assert re.match(rf"adapter {re.escape(str(file))}:(\d+:)? ", str(refused.value))


@pytest.mark.parametrize("top", catalogue.LOOPING_IMPORTS)
def test_an_import_without_an_end_is_one_line(tmp_path, top, unchanged, counts):
    file = tmp_path / "mine.py"
    file.write_text(f"{campaign.HEAD}{top}\n")
    counts["attacks"] += 1
    with pytest.raises(UsageError, match="does not import: no answer in 1 s"):
        declared_by(str(file), 1)
