"""The plugin of pytest: `pytest --conformance[=PATTERN]`, and cases for tests of one's own.

It stands outside the package, and imports nothing of it until a project uses it: a project may have
a package or a folder of tests that is called `conformance`, too. What it does once it is used is in
`conformance.testing.pytest_plugin`.
"""

import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_PACKAGE = "conformance"
CASES = "conformance_cases"
CHECK = "conformance"  # The marker of the items that are checks.
# From a folder below its root, pytest prints an id as if it were a file above.
_ID = re.compile(r"(?:\.\./)*((?:channel_shuffle|gradient_mean)/\w+@\w+(?::\d+)?:[\w-]+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of the command line and of the project's configuration."""
    group = parser.getgroup("conformance", "channel shuffle and gradient averaging")
    group.addoption(
        "--conformance",
        metavar="PATTERN",
        action="append",
        nargs="?",
        const="",
        help="collect checks, as in --conformance='channel_shuffle/jax_*'; without a pattern the "
        "adapters', and all where there is no adapter",
    )
    group.addoption(
        "--conformance-adapter",
        metavar="FILE.py|MODULE",
        action="append",
        default=[],
        help="code from outside that uses @conformance.implementation",
    )
    parser.addini("conformance", "patterns of checks to collect always", "args", [])
    parser.addini("conformance_adapters", "code from outside, as --conformance-adapter", "args", [])
    parser.addini("conformance_timeout", "seconds for one check (120)", "string", "")
    parser.addini(
        CASES, "cases, as OPERATION:CASE, of tests that take conformance_case", "args", []
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, and takes the ids of checks among the arguments for patterns."""
    config.addinivalue_line(
        "markers", f"{CASES}(*patterns): the cases, as OPERATION:CASE, that conformance_case takes"
    )
    config.addinivalue_line("markers", f"{CHECK}: a check of the suite, which --conformance adds")
    ids = [match[1] for argument in config.args if (match := _ID.fullmatch(argument))]
    if ids:
        config.args[:] = [argument for argument in config.args if not _ID.fullmatch(argument)]
        config.option.conformance = [*(config.option.conformance or []), *ids]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Calls a test that takes `conformance_case` once for each case."""
    if "conformance_case" in metafunc.fixturenames:
        _suite().parametrize(metafunc, CASES)


# The checks must be there before -k and -m choose among the items.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds the checks that match the patterns."""
    if patterns := config.getoption("--conformance") or config.getini("conformance"):
        checks = list(_suite().items_of(session, patterns))
        items.extend(checks)
        report = pytest.CollectReport(session.name, "passed", None, checks)
        config.hook.pytest_collectreport(report=report)  # Who counts what was collected hears it.


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Ends with the verdict on each implementation."""
    if reports := _checks_among(terminalreporter):
        _suite().summarize(terminalreporter, reports)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends with the status of a session without tests, where checks are all and none was tested."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    if _checks_among(reporter) and not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def _checks_among(reporter: Any) -> list[pytest.TestReport]:
    return [
        report
        for reports in reporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call" and _is_of_check(report)
    ]


def _is_of_check(report: pytest.TestReport) -> bool:
    # Keywords would not tell: a folder of tests may be called as the marker is.
    return any(name == "status" for name, _ in report.user_properties) and "@" in report.nodeid


def _suite() -> ModuleType:
    """Returns the suite's own part of the plugin.

    Raises:
        pytest.UsageError: if `conformance` is something else here.
    """
    place = _place_of(sys.modules.get(_PACKAGE))
    if place is None or not (place / "testing" / "pytest_plugin.py").is_file():
        raise pytest.UsageError(
            f"{_PACKAGE} is {place} here, which hides the suite of this name: ask by the command "
            "`conformance run`, or give it another name"
        )
    from conformance.testing import pytest_plugin

    return pytest_plugin


def _place_of(loaded: ModuleType | None) -> Path | None:
    """Returns the folder of the package `conformance` as it is imported, or would be."""
    spec = loaded.__spec__ if loaded is not None else PathFinder.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin
