from pathlib import Path

import pytest

from conformance.core.clauses import FOLDER, all_clauses, read
from conformance.subjects import all_cases

CLAUSES = {clause.id: clause for clause in all_clauses()}


def test_every_clause_has_a_case():
    cited = {clause for case in all_cases() for clause in case.clauses}
    assert set(CLAUSES) - cited == set()


def test_every_cited_clause_exists():
    cited = {clause for case in all_cases() for clause in case.clauses}
    assert cited - set(CLAUSES) == set()


def test_ids_are_unique():
    everything = [clause.id for path in sorted(FOLDER.glob("*.toml")) for clause in read(path)]
    assert len(everything) == len(set(everything))


def test_s1_to_s17_are_there():
    assert {f"S{number}" for number in range(1, 18)} <= set(CLAUSES)


def test_a_contradicted_clause_has_a_case_as_evidence():
    contradicted = [clause for clause in CLAUSES.values() if clause.verdict == "contradicted"]
    assert contradicted
    evidence = {case.name: case for case in all_cases()}
    for clause in contradicted:
        assert clause.id in evidence[clause.evidence].clauses


def test_a_sentence_of_the_article_comes_with_its_translation():
    assert all(bool(clause.article) == bool(clause.article_en) for clause in CLAUSES.values())


def test_the_evidence_against_the_article_tells_it_from_the_truth():
    """What the article says (inside the groups) is another answer than the right one."""
    from conformance.channel_shuffle.diagnosis import answer_of
    from conformance.subjects import solve

    case = next(case for case in all_cases() if case.name == CLAUSES["SA1"].evidence)
    golden = solve(case)
    said = answer_of("shuffled-within-groups", case, golden.inputs)
    assert said is not None
    assert (said["output"] != golden.answers["output"]).any()


def test_an_unknown_field_is_named_with_its_file(tmp_path: Path):
    file = tmp_path / "odd.toml"
    file.write_text('[[clause]]\nid = "X1"\ncolour = "red"\n')
    with pytest.raises(ValueError, match=r"odd\.toml.*colour"):
        read(file)
