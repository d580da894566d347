"""Public reports with a form are caught, by the name of their row; the loop put right conforms."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from ci.public_bugs import PAGE, bugs, page
from conformance.core.checks import Check, all_checks
from conformance.core.implementations import adapter, own
from conformance.core.verdict import NOT_CONFORMING, RIGHT
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.run.plan import known_differences
from tests.wrong.forms import FOLDER, forms
from tests.wrong.test_forms import CHEAPEST, checks_for

UNNAMED = {declared.name: declared for declared in adapter(str(FOLDER / "unnamed.py"))}
FORMS = {form.implementation.name: form for form in forms()}
BUGS = bugs()
CONTROLS = {declared.name: declared for declared in own()}


@pytest.fixture(scope="module")
def examiner():
    examiner = Examiner(installed(), known_differences(), timeout=60)
    yield examiner
    examiner.close()


def asked(name):
    """The cheapest checks of a form: of one that has no name, all that it may be asked."""
    if name in FORMS:
        return checks_for(FORMS[name])
    checks = all_checks([UNNAMED[name]], CHEAPEST, ["cpu"])
    several = UNNAMED[name].steps == "several"
    return (c for c in checks if bool(c.case.question.windows) == several and c.ranks > 1)


def test_every_row_is_asked_and_nine_in_ten_are_named():
    assert all(bug.forms for bug in BUGS)
    assert sum(bool(bug.name) for bug in BUGS) * 10 >= len(BUGS) * 9
    assert len({thread for bug in BUGS for thread in bug.threads}) == 44
    assert {name for bug in BUGS for name in bug.forms} <= {*FORMS, *UNNAMED}
    assert {bug.control for bug in BUGS} <= set(CONTROLS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.threads[0])
def test_a_form_has_the_name_of_its_row(bug):
    for name in bug.forms:
        if name in FORMS:
            assert FORMS[name].mistake == bug.name  # which test_forms shows that it is given


@pytest.mark.parametrize("name", UNNAMED)
def test_what_has_no_name_in_the_catalogue_is_caught(examiner, name):
    is_unused = name == "torch_unused_parameters_not_found"
    for check in asked(name):
        if is_unused and check.case.question.model != "unused":
            continue
        verdict, _ = examiner.examine(check)
        if is_unused and verdict.status == "known":
            assert verdict.mistake == "unused-parameters-not-found"
            return
        if verdict.status in NOT_CONFORMING:
            assert verdict.mistake is None
            return
    pytest.fail(f"{name} conforms")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.threads[0])
def test_the_loop_put_right_conforms_where_the_form_does_not(examiner, bug):
    control = CONTROLS[bug.control]
    cases = (c.case for name in bug.forms for c in asked(name))
    check = next(
        check
        for case in cases
        for check in all_checks([control], [case], ["cpu"])
        if case.question.model != "unused" or "unused" in bug.name
    )
    verdict, _ = examiner.examine(Check(control, check.case, "cpu"))
    assert verdict.status in RIGHT


def test_the_page_is_as_it_would_be_written():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m ci.public_bugs"
