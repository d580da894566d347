"""The page of trainers is written from what they showed, and leaves nothing out."""

import json

import pytest

from ci import trainers

ROWS = [
    {
        "trainer": "mine", "promise": "1/(W*K*n)", "question": "unequal-k2", "problem": "",
        "parts": [
            {"kind": "full", "status": "conforms", "formula": "1/(W·K·n_rk)", "names": []},
            {"kind": "last", "status": "fail", "formula": "1/(W·K_full·n_rk)",
             "names": ["short-window-divided-by-k"]},
        ],
        "samples": ["samples fed more than once: 0 (2 times)"],
    },
    {
        "trainer": "mine", "promise": "1/(W*K*n)", "question": "equal-k1", "parts": [],
        "samples": [], "problem": "ValueError: a | b",
    },
]  # fmt: skip


def test_a_row_has_every_verdict_and_every_problem():
    head, _, row = trainers._table(ROWS)
    assert head == "| trainer | promised | equal, K = 1 | unequal, K = 2 | samples |"
    assert row == (
        "| `mine` | `1/(W*K*n)` | ValueError: a \\| b | ✓ 1/(W·K·n_rk)<br>last: "
        "✗ 1/(W·K_full·n_rk) (short-window-divided-by-k) | 1 sample fed more than once |"
    )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(trainers, "KEPT", tmp_path)
    (tmp_path / "ddp.json").write_text(json.dumps(ROWS))


def test_the_page_says_of_scripts_without_results_that_they_were_not_run(kept):
    page = "\n".join(trainers._page())
    assert "[`ddp.py`](../examples/trainers/ddp.py)" in page
    assert "`mine`" in page
    assert "## DeepSpeed" in page
    assert "Not run yet." in page
