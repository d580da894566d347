"""What a call means: which implementations and checks, and what of a folder can be imported."""

import pytest

from conformance.run.plan import make_plan, make_players

MINE = """
@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    return x.copy()
"""


@pytest.fixture
def own_adapter(adapter):
    return str(adapter(MINE))


def asked(plan):
    return {check.implementation.name for check in plan.checks}


def test_an_adapter_without_a_pattern_means_its_own_implementations(own_adapter):
    assert asked(make_plan(adapters=[own_adapter])) == {"mine"}
    [(implementation, device)] = make_players(adapters=[own_adapter])
    assert (implementation.name, device) == ("mine", "cpu")


def test_a_pattern_brings_the_built_in_implementations_that_it_names(own_adapter):
    plan = make_plan(["channel_shuffle/*:grid-c6-g2"], adapters=[own_adapter])
    assert asked(plan) > {"mine", "numpy_reshape"}


def test_what_lies_beside_an_adapter_and_in_the_working_folder_can_be_imported(cli, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here.py").write_text("HERE = 1\n")
    (tmp_path / "elsewhere" / "beside.py").write_text("BESIDE = 1\n")
    file = tmp_path / "elsewhere" / "mine.py"
    file.write_text(f"import conformance\nfrom beside import BESIDE\nfrom here import HERE\n{MINE}")
    done = cli("run", "channel_shuffle/mine:grid-c6-g1", "--adapter", "elsewhere/mine.py")
    assert "Conforms: 1 exact" in done.stdout, done.stderr


def test_a_file_beside_an_adapter_hides_no_framework(cli, adapter, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')\n")
    done = cli("run", "channel_shuffle/mine:grid-c6-g1", "--adapter", adapter(MINE))
    assert "Conforms: 1 exact" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("model, loss, batches, group", "declare framework='torch', runs='per_rank'"),
        ("model, loss, batches", "write def mine(model, loss, batches, devices)"),
        ("model, batches, loss, devices", "parameter 2 is 'batches' and must be 'loss'"),
    ],
)
def test_a_signature_that_does_not_fit_is_one_line_with_the_one_to_write(
    cli, adapter, signature, words
):
    decorator = '@conformance.implementation("gradient_mean", framework="torch")'
    done = cli("run", "--adapter", adapter(f"{decorator}\ndef mine({signature}): ..."))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
