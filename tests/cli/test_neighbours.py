"""Another package of an environment that is called `conformance`, too, is noticed and named."""

from pathlib import Path

import pytest

import conformance
from conformance.cli.neighbours import neighbours
from conformance.core.outcomes import UsageError


class Distribution:
    def __init__(self, name, folder, *files):
        self.name, self.version, self.folder = name, "1.2", folder
        self.files = [Path(file) for file in files]

    def locate_file(self, file):
        return self.folder / file


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Makes the folder of an installed suite, with these other distributions beside it."""

    def make(*others):
        ours = Distribution("torch_jax-conformance", tmp_path, "conformance/core/a.py")
        (tmp_path / "conformance" / "core").mkdir(parents=True)
        everything = [ours, *(Distribution(*other[:1], tmp_path, *other[1:]) for other in others)]
        for _, *files in others:
            for file in files:
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / file).touch()
        monkeypatch.setattr("importlib.metadata.distribution", lambda _: ours)
        monkeypatch.setattr("importlib.metadata.distributions", lambda: everything)
        return tmp_path / "conformance"

    return make


def test_who_else_put_files_into_the_package_is_named(environment):
    folder = environment(("other-suite", "conformance/theirs.py"), ("numpy", "numpy/core.py"))
    assert neighbours(folder).startswith(f"other-suite 1.2 put files into {folder}, too: ")


def test_an_environment_without_another_says_nothing(environment):
    assert neighbours(environment(("numpy", "numpy/core.py"))) == ""
    assert neighbours() == ""


def test_where_another_was_installed_over_the_suite_nothing_runs(environment, monkeypatch):
    folder = environment(("other-suite", "conformance/__init__.py"))
    for name in ("implementation", "__getattr__"):
        monkeypatch.delattr(conformance, name, raising=False)
    with pytest.raises(UsageError, match=r"other-suite 1\.2 put files into .*, over the suite's: "):
        neighbours(folder)
