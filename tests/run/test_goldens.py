"""Goldens: the same bytes everywhere, written whole, and read with suspicion."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from conformance.cli.regeneration import regen
from conformance.core.golden import sha256_of
from conformance.core.outcomes import UsageError
from conformance.run.goldens import (
    FOLDER,
    MANIFEST,
    load,
    read_files,
    rendered_manifest,
    write,
)
from conformance.subjects import all_cases, solve

GRID = "channel_shuffle-grid.safetensors"


@pytest.fixture
def goldens(tmp_path):
    folder = tmp_path / "goldens"
    write(read_files(FOLDER), folder)
    return folder


def test_what_is_stored_is_what_the_oracle_says():
    stored = load(all_cases())
    for case in all_cases():
        fresh, golden = solve(case), stored.of(case)
        if case.on_the_fly:
            assert golden.hashes == {n: sha256_of(a) for n, a in fresh.answers.items()}
            continue
        for stored_part, made in ((golden.inputs, fresh.inputs), (golden.answers, fresh.answers)):
            assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in stored_part.items()} == {
                n: (a.dtype, a.shape, a.tobytes()) for n, a in made.items()
            }


def test_goldens_stay_below_20_megabytes():
    assert sum(map(len, read_files().values())) < 20_000_000


def test_regeneration_gives_the_same_bytes_with_other_kernels_and_hashes():
    # `ci/run test` checks them with this machine's own kernels and some other hash.
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "regen", "--check"],
        env={
            **os.environ,
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
            "OPENBLAS_CORETYPE": "Prescott",
            "PYTHONHASHSEED": "1",
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "goldens are as the suite makes them\n")


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def missing(path):
    path.unlink()


@pytest.mark.parametrize("spoil", [flipped, truncated, missing])
@pytest.mark.parametrize("name", [GRID, MANIFEST])
def test_a_spoilt_file_is_named(goldens, spoil, name):
    spoil(goldens / name)
    with pytest.raises(UsageError, match=f"^goldens/{name} .*`conformance regen` mends it$"):
        load(all_cases(), goldens)


def test_an_extra_file_is_named(goldens):
    (goldens / "more.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"more\.safetensors is extra"):
        load(all_cases(), goldens)


def test_regen_says_what_it_mends(goldens):
    more = "channel_shuffle-dtypes.safetensors"
    for spoil, name in ((flipped, GRID), (truncated, more), (missing, MANIFEST)):
        spoil(goldens / name)
    (goldens / "more.safetensors").write_bytes(b"")
    mended = regen([], check=False, folder=goldens)
    assert sorted(mended) == [
        f"goldens/{more} differs",
        f"goldens/{GRID} differs",
        "goldens/manifest.json is missing",
        "goldens/more.safetensors is extra",
    ]
    assert read_files(goldens) == read_files(FOLDER)


@pytest.mark.parametrize(
    ("key", "value"), [("clauses", []), ("parameters", {}), ("promises", ["x"]), ("refusal", {})]
)
def test_an_edited_case_is_named(goldens, key, value):
    manifest = json.loads((goldens / MANIFEST).read_text())
    manifest["cases"]["channel_shuffle:grid-c6-g2"][key] = value
    edited = rendered_manifest(
        {n: r for n, r in read_files(goldens).items() if n != MANIFEST}, manifest["cases"]
    )
    (goldens / MANIFEST).write_bytes(edited)
    with pytest.raises(UsageError, match=f"{key} of channel_shuffle:grid-c6-g2"):
        load(all_cases(), goldens)


def test_a_case_that_is_not_there_any_more_is_named(goldens):
    manifest = json.loads((goldens / MANIFEST).read_text())
    manifest["cases"]["channel_shuffle:gone"] = manifest["cases"].pop("channel_shuffle:grid-c6-g2")
    edited = rendered_manifest(
        {n: r for n, r in read_files(goldens).items() if n != MANIFEST}, manifest["cases"]
    )
    (goldens / MANIFEST).write_bytes(edited)
    with pytest.raises(UsageError, match="channel_shuffle:gone"):
        load(all_cases(), goldens)


def test_no_folder_at_all_says_what_makes_one(tmp_path):
    with pytest.raises(UsageError, match="is missing; `conformance regen` makes it"):
        load(all_cases(), tmp_path / "nowhere")


def test_a_pattern_regenerates_its_families_and_keeps_the_others(goldens):
    flipped(goldens / GRID)
    regen(["channel_shuffle:grid-c6-g2"], check=False, folder=goldens)
    assert read_files(goldens) == read_files(FOLDER)


def test_a_pattern_that_means_no_case_is_refused():
    with pytest.raises(UsageError, match="no case matches"):
        regen(["channel_shuffle:nothing"], check=True)


@pytest.mark.parametrize("killed_at", ["before the old set is moved", "between the two renames"])
def test_a_killed_regen_leaves_a_whole_set(goldens, killed_at, monkeypatch):
    before = read_files(goldens)

    class Killed(BaseException):
        pass

    renames = []
    real = type(goldens).rename

    def rename(self, target):
        if len(renames) == (0 if killed_at.startswith("before") else 1):
            raise Killed
        renames.append(target)
        return real(self, target)

    monkeypatch.setattr(type(goldens), "rename", rename)
    with pytest.raises(Killed):
        write({MANIFEST: b"other"}, goldens)
    monkeypatch.undo()
    assert read_files(goldens) == before
    write(before, goldens)
    assert read_files(goldens) == before
    assert [path.name for path in goldens.parent.iterdir()] == ["goldens"]


def test_complex_numbers_are_stored_as_pairs_that_any_reader_has_types_for():
    import safetensors

    with safetensors.safe_open(FOLDER / "channel_shuffle-dtypes.safetensors", "numpy") as stored:
        pairs = stored.get_tensor("dtype-c64-c6-g2/input/input")
    case = next(case for case in all_cases() if case.name == "dtype-c64-c6-g2")
    assert pairs.dtype == np.float32
    assert pairs.shape == (*case.question.shape, 2)
    assert np.array_equal(pairs.reshape(-1).view("c8"), solve(case).inputs["input"].reshape(-1))
