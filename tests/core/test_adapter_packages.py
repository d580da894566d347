"""What an adapter imports is known by name and version, without running it."""

from importlib.metadata import version

from conformance.core.adapter_packages import packages_of


def test_packages_of_an_adapter_and_of_the_files_beside_it(tmp_path):
    (tmp_path / "mine.py").write_text("import json, port\nimport conformance\nimport PIL.Image\n")
    (tmp_path / "port.py").write_text("def f():\n    from rich.text import Text\nimport mine\n")
    packages = packages_of([str(tmp_path / "mine.py")])
    assert packages == {"pillow": version("pillow"), "rich": version("rich")}


def test_what_cannot_be_read_or_is_no_package_is_left_out(tmp_path):
    (tmp_path / "broken.py").write_text("import (")
    (tmp_path / "strange.py").write_text("import nothing_of_this_name\nfrom . import a\n")
    adapters = [str(tmp_path / f"{name}.py") for name in ("broken", "strange", "missing")]
    assert packages_of([*adapters, "nothing_of_this_name.adapter"]) == {}
    assert packages_of(["rich.text"]) == {"rich": version("rich")}
