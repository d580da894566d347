"""The recorded cases of a quick run are those that the kill matrix of today chooses."""

from collections import Counter

from ci.quick_cases import text_of
from conformance.core.checks import asks
from conformance.core.clauses import all_clauses
from conformance.core.implementations import own
from conformance.proofs.quick_cover import TIMES, aims_of, quick_cover, small_cases
from conformance.run.quick import FILE, quick_cases
from conformance.subjects import all_cases, catalogue
from tests.proofs.kills import kills_of_all

QUICK = [case for case in all_cases() if case.id in quick_cases()]


def test_the_file_is_what_the_script_writes():
    cases = small_cases()
    chosen = quick_cover(cases, kills_of_all(cases))
    assert FILE.read_text(encoding="utf-8") == text_of(chosen), "run python -m ci.quick_cases"


def test_every_mistake_is_killed_twice_and_every_clause_that_a_case_cites_is_cited():
    killed = Counter(kill.mistake for kill in kills_of_all(QUICK))
    assert min(killed[mistake.name] for mistake in catalogue()) >= TIMES
    cited = {clause for case in all_cases() for clause in case.clauses}
    assert {clause for case in QUICK for clause in case.clauses} == cited
    assert cited <= {clause.id for clause in all_clauses()}


def test_of_every_kind_of_implementation_each_mistake_is_killed_and_named_where_any_case_does():
    cases = small_cases()
    aims = aims_of(cases, kills_of_all(cases))
    reached = {aim for case in QUICK for aim in aims[case.id]}
    assert reached == {aim for own_aims in aims.values() for aim in own_aims}


def test_every_implementation_is_asked_some_case():
    for declared in own():
        assert any(asks(case, declared) for case in QUICK), declared.id
