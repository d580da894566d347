"""Random loops: weights lie inside their intervals, and the formula is the one that was drawn.

`python tests/weigh/test_random_loops.py 500` asks so many.
"""

import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest

from conformance.weighing.diagnosis import judge
from conformance.weighing.formula import counts_around
from conformance.weighing.records import Step

HERE = Path(__file__).parent
sys.path.append(str(HERE))
from random_loops import FORMULAS, divisor  # noqa: E402


def loops(folder, world, first, last, seconds=280):
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(
        [sys.executable, *agent, str(HERE / "random_loops.py"), str(folder), str(first), str(last)],
        capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def wrong_with(loop):
    """What is not as it was drawn; empty where all is."""
    (verdict,) = judge([Step.from_json(step) for step in loop["steps"]], None)
    if loop["problems"] or len(verdict.terms) != 1 or verdict.terms[0].note:
        return [f"not weighed: {loop['problems']} {[t.note for t in verdict.terms]}"]
    (term,) = verdict.terms
    wrong, rights = [], []
    for cell in term.cells:
        counts = loop["counts"][cell.step - 1]
        right = 1 / Fraction(divisor(loop["formula"], counts, cell.rank, cell.micro_batch))
        rights.append(right)
        if cell.count != counts[cell.rank][cell.micro_batch]:
            wrong.append(f"{cell.count} items")
        if not Fraction(cell.low) <= right <= Fraction(cell.high):
            wrong.append(f"{float(right)} outside {cell.low} to {cell.high}")
        if cell.high - cell.low > 0.01 * float(right):
            wrong.append(f"an interval of {(cell.high - cell.low) / float(right)}")
    around = counts_around(term.cells, verdict.world)
    read = [[formula.value(counts) for counts in around] for formula in term.reading.same]
    near = [[abs(float(v) - float(r)) < 1e-9 for v, r in zip(values, rights, strict=True)]
            for values in read if None not in values]  # fmt: skip
    if not any(all(row) for row in near) or term.reading.others:
        wrong.append(f"{term.reading} where {loop['formula']} was drawn")
    if any(finding.is_fault for _, finding in verdict.findings):
        wrong.append(f"accused: {verdict.names}")
    return wrong


def test_weights_and_formulas_of_random_loops_are_those_that_were_drawn(tmp_path):
    asked = loops(tmp_path, 2, 0, 25)
    assert len(asked) == 25
    assert [(loop["seed"], wrong) for loop in asked if (wrong := wrong_with(loop))] == []


def test_an_interval_that_is_moved_is_noticed(tmp_path):
    (loop,) = loops(tmp_path, 1, 3, 4)
    assert not wrong_with(loop)
    for part in loop["steps"][0]["parts"]:
        part["by_rank"][0]["values"][0] *= 1.001
    assert wrong_with(loop)


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_table_of_formulas_divides_as_it_says(formula):
    assert divisor(formula, [[3, 5], [7, 2]], 1, 0) > 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        bad = []
        many = int(sys.argv[1])
        for world in (1, 2, 3):
            folder = Path(name) / str(world)
            folder.mkdir()
            asked = loops(folder, world, world * 10_000, world * 10_000 + many // 3 + 1, 3000)
            bad += [(world, loop["seed"], wrong) for loop in asked if (wrong := wrong_with(loop))]
            print(f"W = {world}: {len(asked)} loops, {len(bad)} not as drawn so far")
        print(*bad, sep="\n")
