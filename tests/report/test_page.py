import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from conformance.channel_shuffle.diagnosis import answer_of
from conformance.core.comparison import sha256_of_answer
from conformance.core.outside_words import one_line
from conformance.gradient_mean.diagnosis import as_answer
from conformance.gradient_mean.parts import Parts
from conformance.report import page
from conformance.report.page import charts, remade_answers, tables
from conformance.report.summary import summarize
from conformance.run.goldens import FOLDER, installed
from conformance.run.results import Record, Run
from conformance.subjects import all_cases, catalogue
from tests.report import hostile
from tests.report.records import ENVIRONMENT, record

GOLDENS = hashlib.sha256((FOLDER / "manifest.json").read_bytes()).hexdigest()
HEADER = {"checks": 1, "environment": ENVIRONMENT, "goldens": GOLDENS, "suite": "0.1.0"}


def case_of(name):
    return next(case for case in all_cases() if case.name == name)


def golden_of(name):
    return installed().of(case_of(name))


def text_of(run):
    return page.text(summarize(run))


def failing(name, mistake, answer, promise="copy", **evidence):
    case = case_of(name)
    return Record(
        id=f"{case.operation}/mine@cpu:{name}",
        operation=case.operation,
        implementation="mine",
        device="cpu",
        case=name,
        clauses=case.clauses,
        status="fail",
        reason="wrong",
        mistake=mistake,
        error_over_bound=None,
        seconds=0.1,
        answer=answer and sha256_of_answer(answer),
        promise=promise,
        fits=(mistake,) if mistake else (),
        evidence=evidence,
    )


def data_of(*records, **header):
    return tables.of(Run({**HEADER, **header}, records, {}))


def embedded_in(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_it_is_one_file_that_asks_nothing_of_a_network():
    text = text_of(Run(HEADER, (record("a", "identity-probe-f32-c12-g3", "1"),), {}))
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_one_script_is_the_one_that_the_policy_lets_run():
    text = text_of(Run(HEADER, (), {}))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_nothing_of_the_data_is_markup():
    run = hostile.run()
    text = text_of(run)
    assert text.count("<script") == 2
    assert "<img src=x" not in text
    assert "{{ 7*7 }}" in embedded_in(text)["reasons"]
    assert one_line(hostile.NASTY) in embedded_in(text)["reasons"]


def test_an_adapter_that_a_file_names_is_neither_run_nor_shown_where_it_is_none(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("SECRET = 1\nraise SystemExit('it was run')\n")
    data = data_of(
        record("a", "x", "1", "fail"), environment={**ENVIRONMENT, "adapters": [str(secret)]}
    )
    assert "SECRET" not in json.dumps(data)


def test_numbers_that_json_has_not_are_words():
    ratios = tables.of(hostile.run())["checks"]["ratio"]
    assert {ratio for ratio in ratios if isinstance(ratio, str)} == {"inf", "nan"}


def test_every_check_is_in_it_with_what_the_suite_says_of_its_case():
    name = "identity-probe-f32-c12-g3"
    data = data_of(record("torch_module", name, "1"), record("jax_reshape", name, "1"))
    (case,) = data["cases"]
    assert case["about"] == case_of(name).about
    assert case["permutation"] == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert [part for part, *_ in case["arrays"]] == ["input", "answer"]
    assert data["clauses"]["S1"][0].startswith("Output channel k")
    assert len(data["checks"]["owner"]) == 2
    module = data["implementations"]["channel_shuffle/torch_module"]
    assert "nn.ChannelShuffle" in module["source"]
    assert module["sibling"] == "channel_shuffle/jax_reshape"
    assert module["place"].startswith("impls/channel_shuffle/torch_module.py:")


def test_code_from_outside_stands_beside_a_reference_of_its_own_framework(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import conformance\n\n"
        '@conformance.implementation("channel_shuffle", framework="numpy")\n'
        "def mine(x, groups): ...\n"
    )
    name = "identity-probe-f32-c12-g3"
    header = {"environment": {**ENVIRONMENT, "adapters": [str(mine)]}}
    data = data_of(record("mine", name, "1"), **header)
    sibling = data["implementations"]["channel_shuffle/mine"]["sibling"]
    assert data["implementations"][sibling]["framework"] == "numpy"


def test_implementations_are_counted_beside_checks():
    records = (record("a", "x", "1"), record("a", "y", "1"), record("b", "x", "1", "fail"))
    before = text_of(Run(HEADER, records, {})).split('id="data"')[0]
    assert before.count("1 of 2 implementations") == 2


def test_other_goldens_are_not_shown_as_those_of_the_run():
    data = data_of(record("a", "identity-probe-f32-c12-g3", "1"), goldens="other")
    assert data["goldens"] is False
    assert data["cases"][0]["arrays"] == []


def test_an_answer_that_a_mistake_gives_is_made_again_and_proved_by_its_hash():
    name = "identity-probe-f32-c12-g3"
    wrong = answer_of("inverse-groups", case_of(name), golden_of(name).inputs)
    data = data_of(failing(name, "inverse-groups", wrong))
    (given,) = data["remade"].values()
    assert given["proved"] is True
    ((array, right, got, words),) = given["arrays"]
    assert array == "output"
    assert right.split()[0] == "217.0"
    assert got.split()[0] == "163.0"
    assert words.startswith("2160 of 2592 elements are wrong")


def test_an_answer_with_another_hash_is_not_said_to_be_that_of_the_mistake():
    name = "identity-probe-f32-c12-g3"
    other = {"output": np.zeros(3, np.float32)}
    (given,) = data_of(failing(name, "inverse-groups", other))["remade"].values()
    assert given["proved"] is False


def test_where_many_checks_fail_the_first_of_every_implementation_are_made_again(monkeypatch):
    monkeypatch.setattr(remade_answers, "MOST", 3)
    name = "identity-probe-f32-c12-g3"
    one = failing(name, "inverse-groups", {"output": np.zeros(3, np.float32)})
    many = [replace(one, implementation=who) for who in ("a", "a", "a", "b", "c")]
    assert list(data_of(*many)["remade"]) == [0, 3, 4]


def test_the_weights_of_samples_are_those_that_were_given():
    name = "spectrometer-w4-n2-1-4-1-k1"
    parts = Parts(case_of(name).question, golden_of(name).inputs, "sample_mean")
    mistake = next(m for m in catalogue() if m.name == "mean-of-means")
    wrong = as_answer(parts, next(iter(mistake.answers(parts)))[0])
    data = data_of(failing(name, "mean-of-means", wrong, promise="sample_mean"))
    (given,), (case,) = data["remade"].values(), data["cases"]
    assert given["proved"] is True
    assert case["weights"]["sample_mean"] == [0.125] * 8
    assert given["weights"] == [0.125, 0.125, 0.25, *[0.0625] * 4, 0.25]


def test_a_permutation_that_has_no_name_is_drawn_from_the_evidence():
    name, moved = "photographs-u8", [11, *range(1, 11), 0]
    (given,) = data_of(failing(name, None, None, permutation=moved))["remade"].values()
    assert given["permutation"] == moved
    assert given["photographs"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("moved", [[0] * 12, [1, 0], list(range(1, 13))])
def test_what_is_no_permutation_of_the_channels_is_not_drawn(moved):
    assert data_of(failing("photographs-u8", None, None, permutation=moved))["remade"] == {}


def test_what_was_read_off_an_answer_is_in_it_as_sentences():
    differs = {"differs": {"words": "output: all wrong"}, "observed": ["it moves nothing"]}
    data = data_of(failing("photographs-u8", None, None, **differs))
    (places,) = data["evidence"].values()
    assert [data["reasons"][place] for place in places] == ["output: all wrong", "it moves nothing"]


def test_a_picture_is_the_picture_that_it_shows(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) * 8
    file = tmp_path / "a.png"
    file.write_bytes(base64.b64decode(charts.png(pixels).partition(",")[2]))
    assert np.array_equal(np.asarray(image.open(file)), pixels)


def test_error_over_bound_is_counted_by_powers_of_ten():
    records = [
        record("a", str(n), "1", "within-bound", error_over_bound=ratio)
        for n, ratio in enumerate((0.0, 1e-9, 0.07, 0.08, 1.0))
    ]
    found = charts.bounds(summarize(Run(HEADER, tuple(records), {})))
    assert found["below"]["count"] == 2
    assert [bar["count"] for bar in found["bars"] if bar["count"]] == [2, 1]
    assert charts.bounds(summarize(Run(HEADER, (record("a", "x", "1"),), {}))) is None


def test_what_was_not_tested_stands_in_the_page_before_any_script():
    records = [record("a", "x", "1"), record("b", "x", None, "unsupported", reason="no strides")]
    text = text_of(Run(HEADER, tuple(records), {}))
    before = text.split('id="data"')[0]
    assert "What was not tested" in before
    assert "no strides" in before


@pytest.mark.parametrize(
    ("records", "footer", "words"),
    [
        ([record("a", "x", "1")], {}, "Conforms: 1 check"),
        ([record("a", "x", "1", "fail")], {}, "Does not conform: 1 of 1 checks"),
        ([record("a", "x", "1")], None, "Cut short after 1 of 9 checks"),
        ([], None, "Cut short after 0 of 9 checks"),
    ],
)
def test_the_title_is_the_verdict(records, footer, words):
    text = text_of(Run({**HEADER, "checks": 9}, tuple(records), footer))
    assert f"<title>{words} – conformance</title>" in text
