"""Every mistake as a user writes it is found out in its real world, and given its own name."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import count, islice

import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

from conformance.core.checks import Check, all_checks
from conformance.core.questions import BehaviourQuestion, ShuffleQuestion, VirtualQuestion
from conformance.core.verdict import NOT_CONFORMING, RIGHT
from conformance.report.findings import findings
from conformance.run.adapters import gather
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.run.results import read as read_results
from conformance.run.results import record_of
from conformance.subjects import all_cases, catalogue
from tests.proofs.kills import kills_of
from tests.wrong.forms import FRAMEWORKS, WITHOUT_FORM, files, forms, read

FORMS = forms()  # an unknown name fails here, when tests are collected
# Wrong answers that are awaited, each of another family. JAX compiles for every one of them.
AWAITED = {"torch": 4, "jax": 2}
ASKED = 24  # at most; a form may be right where another form of its mistake is wrong


@pytest.fixture(scope="module")
def examiner():
    examiner = Examiner(installed(), timeout=60)
    yield examiner
    examiner.close()


def cost(case):
    """Small worlds, few micro-batches and models without convolutions first."""
    question = case.question
    if isinstance(question, ShuffleQuestion):
        return question.transform == "compiled", len(question.shape)
    if isinstance(question, VirtualQuestion):
        return question.fill == "one-hot", question.world_size, question.micro_batches
    heavy = question.model in ("convnet", "max_pool")
    return heavy, question.world_size, question.micro_batches


CHEAPEST = sorted(
    (
        case
        for case in all_cases()
        if not isinstance(case.question, BehaviourQuestion)
        # Large shuffles take longest, and what they see, small ones see too.
        and not (isinstance(case.question, ShuffleQuestion) and case.on_the_fly)
    ),
    key=cost,
)


@cache
def named_by(case, promise):
    """The mistakes that this case names under this promise."""
    asked = replace(case, promises=(promise,)) if case.operation == "gradient_mean" else case
    return {kill.mistake for kill in kills_of(asked) if kill.is_named}


def checks_for(form, done=()):
    """The checks in which the mistake has its name: the cheapest of each family, the next, …

    Without those of the families that are `done` by then.
    """
    places = defaultdict(count)
    checks = all_checks([form.implementation], CHEAPEST, ["cpu"])
    if form.implementation.steps == "several":  # What it does wrong shows in a second step.
        checks = [check for check in checks if check.case.question.windows]
    # A heavy case waits until the light ones of all families are through.
    for check in sorted(checks, key=lambda c: (cost(c.case)[0], next(places[c.case.family]))):
        if check.case.family not in done and form.mistake in named_by(
            check.case, form.implementation.held_to
        ):
            yield check


def records_of(form, examiner):
    """Its answers to these, until enough of different families are wrong."""
    records, wrong_in = [], set()
    for check in islice(checks_for(form, wrong_in), ASKED):
        records.append(record_of(check, *examiner.examine(check)))
        if records[-1].status in NOT_CONFORMING:
            wrong_in.add(check.case.family)
        if len(wrong_in) == AWAITED[form.framework]:
            break
    return records


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.implementation.name)
def test_a_form_is_found_out_and_given_its_own_name(examiner, form):
    records = records_of(form, examiner)
    [finding] = findings(records)
    assert finding.mistake == form.mistake, finding.sentence
    assert {record.mistake for record in records} <= {form.mistake, None}  # no wrong name at all
    assert {record.status for record in records} <= {"fail", "error", *RIGHT, "not-exercised"}


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_command_line_says_so(cli, tmp_path, path):
    form = read(path)[0]
    # One rank of several that are meant to average has no other's count to get wrong.
    is_alone = form.implementation.runs != "per_rank"
    check = next(check for check in checks_for(form) if is_alone or check.ranks > 1)
    done = cli("run", "--adapter", path, check.id)
    assert done.returncode == 1
    assert f"consistent with {form.mistake}" in done.stdout
    [record] = read_results(tmp_path / "conformance-report").records
    assert record.mistake == form.mistake


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("mistake", catalogue(), ids=lambda mistake: mistake.name)
def test_every_mistake_has_a_form_or_a_reason_why_not(mistake, framework):
    has = any((form.mistake, form.framework) == (mistake.name, framework) for form in FORMS)
    assert has != bool(WITHOUT_FORM.get((mistake.name, framework)))


def test_a_reason_is_of_a_mistake_that_there_is():
    assert {name for name, _ in WITHOUT_FORM} <= {mistake.name for mistake in catalogue()}


@pytest.mark.parametrize("operation", ["channel_shuffle", "gradient_mean"])
def test_forms_stand_in_the_order_of_the_catalogue_in_both_frameworks(operation):
    order = [mistake.name for mistake in catalogue(operation)]
    for path in files():
        places = [order.index(form.mistake) for form in read(path) if form.mistake in order]
        assert places == sorted(places), path.name


def test_all_adapters_may_be_given_together():
    declared = gather(map(str, files()))
    assert {form.implementation for form in FORMS} <= set(declared)


@pytest.mark.parametrize(
    "name", ["numpy_inverse_gruops", "jax_inverse_groups", "numpy_not_divided", "inverse_groups"]
)
def test_a_name_that_is_no_mistake_of_the_framework_and_the_operation_is_refused(adapter, name):
    body = f"@conformance.implementation('channel_shuffle', framework='numpy')\ndef {name}(x, g): x"
    with pytest.raises(ValueError, match=f"{name} is none of numpy_{{inverse-groups,"):
        read(adapter(body))


def test_a_form_that_is_right_would_be_noticed(examiner):
    """The proof can fail: whoever is right has no finding, and whoever errs otherwise another."""
    form = next(f for f in FORMS if f.implementation.name == "torch_not_divided")
    check = next(checks_for(form))
    [right] = [i for i in gather() if i.name == "torch_manual_all_reduce"]
    verdict, seconds = examiner.examine(Check(right, check.case, "cpu"))
    assert not findings([record_of(check, verdict, seconds)])
