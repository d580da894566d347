"""Goldens, cases, known differences, ledgers: used whole, or one line that says why not."""

import json
import os
import random

import pytest

from conformance.compare.settings import read_inputs
from conformance.core import versions
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import DEEPEST, parse_json, read_bytes
from conformance.proofs.mutants import ledger
from conformance.run import case_files, known
from conformance.run.adapters import declared_by
from conformance.run.goldens import FOLDER, MANIFEST, load, read_files, rendered_manifest, write
from conformance.run.launch import jax as jax_launch
from conformance.run.plan import Plan, outside_case
from conformance.subjects import all_cases
from tests.harm.test_mutated_results import LINES, VALUES, places
from tests.sampling import IS_FULL

CASE = "channel_shuffle:identity-probe-f32-c6-g2"
LEFT_OUT = ((), ("certificate",))
STORED = read_files(FOLDER)


@pytest.fixture
def goldens(tmp_path):
    folder = tmp_path / "goldens"
    write(STORED, folder)
    return folder


def refused(folder, words=""):
    with pytest.raises(UsageError) as raised:
        load(all_cases(), folder)
    assert str(raised.value).startswith("goldens/")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def edited(folder, change):
    """Writes the manifest as `regen` would, after a change to its entries."""
    manifest = json.loads(STORED[MANIFEST])
    change(manifest)
    files = {name: raw for name, raw in STORED.items() if name != MANIFEST}
    (folder / MANIFEST).write_bytes(rendered_manifest(files, manifest["cases"]))


@pytest.mark.parametrize("name", ["sub", "channel_shuffle-grid.safetensors", MANIFEST])
@pytest.mark.parametrize("kind", ["a folder", "a link to nowhere", "a pipe"])
def test_what_is_no_file_among_goldens_is_named(goldens, name, kind):
    file = goldens / name
    file.unlink(missing_ok=True)
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/nonexistent")
    refused(goldens, f"goldens/{name}")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shape", [-1], "answers[...].shape[0]: expected int >= 0"),
        ("shape", [576], "shape of output"),
        ("dtype", "i32", "dtype of output"),
        ("dtype", "f99", "dtype of output"),
        ("sha256", "0" * 64, "SHA-256 of output"),
        ("tensor", "another", "tensor another of"),
        ("tensor", "identity-probe-f32-c6-g2/input/input", "tensor identity-probe"),
        ("file", None, "tensor identity-probe"),
    ],
)
def test_an_edit_of_an_array_is_named_with_its_case(goldens, key, value, words):
    def change(manifest):
        manifest["cases"][CASE]["answers"]["output"][key] = value

    edited(goldens, change)
    refused(goldens, words)
    with pytest.raises(UsageError, match=CASE):
        load(all_cases(), goldens)


def test_an_array_that_was_left_out_or_renamed_is_named(goldens):
    def renamed(manifest):
        answers = manifest["cases"][CASE]["answers"]
        answers["outputs"] = answers.pop("output")

    def left_out(manifest):
        manifest["cases"][CASE]["answers"] = {}

    edited(goldens, renamed)
    refused(goldens, f"tensor identity-probe-f32-c6-g2/answer/output of {CASE}")
    edited(goldens, left_out)
    refused(goldens, "identity-probe-f32-c6-g2/answer/output of channel_shuffle-identity-probe")


def test_no_edit_of_an_entry_is_a_traceback(goldens):
    numbers = random.Random(16)
    for _ in range(300 if IS_FULL else 12):
        value = numbers.choice(VALUES)

        def change(manifest, value=value):
            cases = manifest["cases"]
            # A certificate is for readers: nothing is judged by it.
            at = numbers.choice([at for at in places(cases[CASE]) if at not in LEFT_OUT])
            holder = cases[CASE]
            for key in at[:-1]:
                holder = holder[key]
            was = holder[at[-1]]
            holder[at[-1]] = [was] if json.dumps(was) == json.dumps(value) else value

        edited(goldens, change)
        refused(goldens)


@pytest.mark.parametrize("text", [*LINES, '{"format": 2, "files": {}, "cases": null}'])
def test_a_manifest_of_another_form_is_named(goldens, text):
    (goldens / MANIFEST).write_text(text)
    refused(goldens, f"goldens/{MANIFEST}")


def test_a_file_that_is_no_safetensors_though_the_manifest_has_its_hash_is_named(goldens):
    name = "channel_shuffle-grid.safetensors"
    files = {**STORED, name: b"x" * 100}
    files.pop(MANIFEST)
    (goldens / name).write_bytes(files[name])
    cases = json.loads(STORED[MANIFEST])["cases"]
    (goldens / MANIFEST).write_bytes(rendered_manifest(files, cases))
    refused(goldens, f"goldens/{name} is no safetensors file")


QUESTIONS = [
    {"operation": "channel_shuffle", "question": {"shape": [1, 6, 2], "groups": 3, "then": [2]}},
    {
        "operation": "gradient_mean",
        "name": "mine",
        "refusal": {"type": "ValueError"},
        "clauses": ["P1"],
        "question": {"model": "linear", "shards": [[1, 2]], "dtype": "f32"},
    },
]


def test_no_case_of_others_is_a_traceback():
    for case in QUESTIONS:
        for at in places(case):
            for value in [*VALUES, 10**12, 10**17]:
                mutant = json.loads(json.dumps(case))
                holder = mutant
                for key in at[:-1]:
                    holder = holder[key]
                if at:
                    holder[at[-1]] = value
                try:
                    case_files.read(json.dumps(mutant if at else value), "mine.json")
                except UsageError as error:
                    assert str(error).startswith("mine.json: ")
                    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"shape": [1, 10**12, 1], "groups": 2}, "of at most 100000000"),
        ({"shape": [10**9, 10**9, 10**9], "groups": 2}, "of at most 100000000"),
        ({"shape": [1, 10**30, 1], "groups": 2}, "an integer of 31 digits"),
    ],
)
def test_a_case_of_giant_tensors_is_refused_before_any_is_made(question, words):
    text = json.dumps({"operation": "channel_shuffle", "question": question})
    with pytest.raises(UsageError, match=words):
        outside_case(text)


@pytest.mark.parametrize("text", [line for line in LINES if line])
def test_a_case_that_is_none_is_one_line(text, tmp_path):
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(UsageError, match=r"^--case .*case\.json: "):
        outside_case(str(tmp_path / "case.json"))


@pytest.mark.parametrize("name", ["pipe", "folder", "missing", "zero", "x" * 5000, "nul\0"])
def test_what_is_no_file_keeps_nobody_waiting(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"^that: (is no regular file|cannot be read)"):
        read_bytes(tmp_path / name, "that")


def test_data_is_as_deep_as_reports_go():
    def deep(levels):
        return "[" * levels + "]" * levels

    assert parse_json(deep(DEEPEST), "that")
    for levels in (DEEPEST + 2, 500, 100_000):
        with pytest.raises(UsageError, match=r"^that: "):
            parse_json(deep(levels), "that")


ENTRY = """
# A comment.
[[{table}]]
checks = ["a"]
{seen}
words = "it differs"
{rest}
"""
DATED = 'dated = 2026-01-01\nreference = "x"'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('words = "it differs"', "words = 3"), ":3: words: expected str, got int"),
        (('words = "it differs"', ""), ":3: 'words' is missing"),
        (('checks = ["a"]', "checks = [1]"), r":3: checks\[0\]: expected str, got int"),
        (('checks = ["a"]', 'checks = ["a"]\nsince = "torch"'), ":3: 'torch' is no package"),
        (('checks = ["a"]', 'checks = ["a"]\ncolour = 1'), ":3: unknown field 'colour'"),
        (("[[", "[other]\n[["), r": holds 'other'; entries \[\["),
        (('checks = ["a"]', "checks = " + "[" * 5000), "is not TOML"),
        (('words = "it differs"', f"words = {'9' * 5000}"), "is not TOML"),
    ],
)
@pytest.mark.parametrize("table", ["known", "needs"])
def test_an_entry_of_another_form_is_named_with_its_line(tmp_path, table, change, words):
    text = ENTRY.format(
        table=table,
        seen='seen = "fail x"' if table == "known" else "",
        rest=DATED if table == "known" else "",
    )
    file = tmp_path / "entries.toml"
    file.write_text(text)
    reader = known.read if table == "known" else versions.read
    assert len(reader(file)) == 1
    file.write_text(text.replace(*change))
    with pytest.raises(UsageError, match=words):
        reader(file)


@pytest.mark.parametrize(
    ("seen", "words"), [("exact x", "seen: expected"), ("fail", "seen: expected"), ("", "seen: ")]
)
def test_an_entry_excuses_a_failure_and_nothing_else(tmp_path, seen, words):
    file = tmp_path / "known.toml"
    file.write_text(ENTRY.format(table="known", seen=f'seen = "{seen}"', rest=DATED))
    with pytest.raises(UsageError, match=f"known.toml:3: {words}"):
        known.read(file)


@pytest.mark.parametrize("line", [line for line in LINES if line])
def test_a_ledger_of_mutants_of_another_form_is_named_with_its_line(tmp_path, line):
    (tmp_path / ledger.FILE).write_text(f"{line}\n")
    with pytest.raises(UsageError, match=rf"{ledger.FILE}:1: "):
        ledger.read(tmp_path)


def test_an_adapter_that_is_a_pipe_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "mine.py")
    with pytest.raises(UsageError, match="no such file"):
        declared_by(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04" + bytes(40)]
    + [
        b"\x93NUMPY\x01\x00\x76\x00"
        + f"{{'descr': {d}, 'fortran_order': False, 'shape': {s}, }}".encode().ljust(117)
        + b"\n"
        for d, s in [
            ("'<f8'", "(10**17,)"),
            ("'<f8'", "(99999999999999999,)"),
            ("'|O'", "(1,)"),
            ("'<f8'", "(-1,)"),
            ("5", "(1,)"),
        ]
    ],
)
def test_an_array_file_that_is_none_is_one_line(tmp_path, raw):
    file = tmp_path / "x.npy"
    file.write_bytes(raw)
    with pytest.raises(UsageError, match=r"^--input .*x\.npy: is no array of NumPy") as raised:
        read_inputs([str(file)])
    assert len(str(raised.value)) < 2000
    with pytest.raises(UsageError, match="is no regular file"):
        read_inputs([f"{tmp_path}/fifo.npy"] if not os.mkfifo(tmp_path / "fifo.npy") else [])


@pytest.mark.parametrize("shape", ["1000000000000", "100000,100000", "9" * 5000, "0", "-1"])
def test_an_input_of_a_giant_shape_is_one_line(shape):
    with pytest.raises(UsageError, match=r"^--input "):
        read_inputs([shape])


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:0", "host:99999", ":", "a b:1"])
def test_a_coordinator_that_is_no_address_is_one_line(address):
    with pytest.raises(UsageError, match="HOST:PORT is meant"):
        jax_launch.joined(Plan((), load(all_cases())), address, 2, 0, 1)
