"""Files of others, mutated field by field: a report or one line, never a traceback or a hang.

Some thousand calls in some seconds; twelve thousand by `bash ci/run harm`.
"""

import copy
import json
import random
import time

import pytest
from rich.console import Console

from conformance.channel_shuffle.mistakes import MISTAKES
from conformance.core.outcomes import UsageError
from conformance.core.report_folder import ReportFolder, as_line
from conformance.report import changes, forms, merging, page, terminal
from conformance.report.summary import summarize
from conformance.run.results import read
from tests.report.records import record, results
from tests.sampling import IS_FULL, some

CALLS = 12_000 if IS_FULL else 400
SLOWEST = 10.0  # Seconds of a call: a hang is longer, a busy machine is not.

DEEP = current = []
for _ in range(200):
    current.append([])
    current = current[0]
VALUES = [
    None, True, False, 0, 1, -1, 5, 10**6, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308,
    "", "x", "\x00", "\udc80", "\u202e", "1/2", "2/1", "0/0", "1/1000000000000", "-1/2",
    "١/٢", "../../x", "brand-new-mistake", "fail", "exact", "header", "9" * 100, "x" * 5000, "a\nb",
    "{{x}}", "=1+1", [], {}, [None], [1], ["x"], [[]], {"x": 1}, {"": None}, {"x": {"y": "z"}},
    ["x"] * 300, [10**12], [-1], list(range(12)), DEEP, {"words": 3}, {"permutation": [10**15]},
]  # fmt: skip
# What a line may be made into, beside another value in one of its fields.
LINES = [
    "", "null", "[]", "{}", "5", '"x"', "{", "[" * 100_000, '{"a":' * 5_000, "NaN", "Infinity",
    "1e999", "-" * 10, "\ufeff{}", '{"kind": "header"}', '{"kind": "footer"}', '{"kind": "check"}',
    '{"kind": ["check"]}', '{"kind": "check", "seconds": NaN}',
    '{"kind": "check", "seconds": 1e999}',
    '{"kind": "check", "n": ' + "9" * 5000 + "}",
]  # fmt: skip


def run_file(folder, **others):
    """The results of a run in which every kind of check stands, and every field says something."""
    evidence = {
        "differs": {"name": "output", "words": "output: wrong", "wrong": 1, "index": [0, 1, 0, 0]},
        "permutation": [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
        "factor": 2.0,
        "observed": ["it moves the channels"],
        "done": "swapped",
        "advice": "Do not.",
    }
    name, case = MISTAKES[0].name, "identity-probe-f32-c12-g3"
    spectrum = "spectrometer-w2-equal"
    records = [
        record("torch_module", case, "1", promise="copy"),
        record("mine", case, "2", "fail", name, fits=(name,), evidence=evidence, promise="copy"),
        record("mine", "near", "3", "within-bound", error_over_bound=0.5),
        record("mine", "far", "4", "within-bound", error_over_bound=0.25),
        record("mine", spectrum, None, "unsupported", reason="not here", promise="rank_mean"),
        record("mine", "late", None, "timeout", reason="late"),
        record("mine", "on record", "5", "known", reason="known"),
    ]
    return results(folder, records, cases={"near": "{}"}, **others)


def places(content, at=()):
    """Every place in data, as the keys that lead to it."""
    yield at
    children = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, child in children:
        yield from places(child, (*at, key))


def mutated(lines, numbers):
    """The lines of a file with one change: a field, a line, the order, or bytes."""
    lines = list(lines)
    number = numbers.randrange(len(lines))
    kind = numbers.random()
    if kind < 0.75:
        content = json.loads(lines[number])
        at = numbers.choice([at for at in places(content) if at])
        *above, last = at
        holder = content
        for key in above:
            holder = holder[key]
        change = numbers.random()
        if change < 0.8:
            holder[last] = copy.deepcopy(numbers.choice(VALUES))
        elif change < 0.9:
            del holder[last]
        elif isinstance(holder, dict):
            holder[numbers.choice(["more", "", "run", "x" * 300])] = numbers.choice(VALUES)
        lines[number] = json.dumps(content)
    elif kind < 0.85:
        lines[number] = numbers.choice(LINES)
    elif kind < 0.9:
        del lines[number]
    elif kind < 0.95:
        other = numbers.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    else:
        lines.insert(number, lines[numbers.randrange(len(lines))])
    raw = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    if numbers.random() < 0.05:
        at = numbers.randrange(len(raw))
        raw = raw[:at] + bytes([numbers.randrange(256)]) + raw[at + 1 :]
    return raw[: numbers.randrange(len(raw))] if numbers.random() < 0.05 else raw


def report(paths, folder, kind):
    """What `conformance report` or `diff` does with files, without their processes."""
    if kind == "diff":
        first, second = paths
        list(changes.lines(changes.changes(first, second), everything=True))
        return
    run = merging.merge(paths)
    summary = summarize(run)
    with ReportFolder(folder) as opened:
        merging.write(run, opened)
    assert not opened.shortfall
    for form in forms.FORMS.values():
        form(summary).encode()
    if kind == "page":
        page.text(summary)
    with (folder / "terminal").open("w") as stream:
        terminal.show(summary, Console(file=stream), everything=True)
    assert read(folder).records == run.records


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run, one cut short, a shard, the other shard, another version's run, and their merge."""
    folder = tmp_path_factory.mktemp("runs")
    sources = [
        run_file(folder / "whole"),
        run_file(folder / "cut", finished=False),
        run_file(folder / "1", shard="1/2"),
        run_file(folder / "2", shard="2/2"),
        run_file(folder / "old", packages={"torch": "2.9.1"}),
    ]
    with ReportFolder(folder / "merged") as merged:
        merging.write(merging.merge([sources[0], sources[4]]), merged)
    return [*sources, folder / "merged" / "results.jsonl"]


def test_the_files_that_are_mutated_are_read_as_they_are(files, tmp_path):
    for file in files:
        report([file], tmp_path / "to", "page")
    report([files[0], files[0]], tmp_path, "diff")


@pytest.mark.timeout(1800)
def test_no_mutation_of_a_results_file_is_a_traceback_or_a_hang(files, tmp_path):
    numbers = random.Random(14)
    texts = [file.read_text().splitlines() for file in files]
    mutant, outcomes = tmp_path / "mutant.jsonl", {"report": 0, "refused": 0}
    for call in range(CALLS):
        which = numbers.randrange(len(files))
        raw = mutated(texts[which], numbers)
        mutant.write_bytes(raw)
        kind = ("diff", "report", "report", "report", "page")[call % 5]
        paths = [mutant, numbers.choice(files)] if kind == "diff" or call % 3 == 0 else [mutant]
        if numbers.random() < 0.5:
            paths.reverse()
        started = time.monotonic()
        try:
            report(paths, tmp_path / "to", kind)
            outcomes["report"] += 1
        except UsageError as error:
            outcomes["refused"] += 1
            words = str(error)
            assert "\n" not in words.replace(str(tmp_path), ""), raw
            assert len(words) < 2000, words[:300]
        except Exception as error:
            error.add_note(f"call {call}, {kind}: {raw[:4000]!r}")
            raise
        assert time.monotonic() - started < SLOWEST, raw[:2000]
    assert min(outcomes.values()) > CALLS // 10, outcomes


def test_a_field_of_every_record_and_header_with_every_value_is_told_with_its_line(files, tmp_path):
    lines = files[0].read_text().splitlines()
    named = 0
    for number in (0, 2):
        content = json.loads(lines[number])
        for key in content:
            for value in some(VALUES, 5):
                changed = [*lines]
                changed[number] = as_line({**content, key: value}).rstrip("\n")
                file = tmp_path / "mutant.jsonl"
                file.write_text("\n".join(changed) + "\n", "utf-8", "surrogatepass")
                try:
                    read(file)
                except UsageError as error:
                    assert str(error).startswith(f"results {file}")
                    named += f"results {file}:{number + 1}" in str(error)
    assert named > 50
