"""Weigh other people's trainers, examples/trainers, and write docs/trainers.md.

`bash ci/run trainers [NAME…]` makes build/trainers-venv first, which alone has their packages. A
NAME is a file's, without .py; what the others showed before is kept in build/trainers. With --page
it is only written anew.
"""

import ast
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.core.implementations import declared_in
from conformance.weighing.trainer import QUESTIONS, TrainerVerdict, ask, is_of_a_port, judge

ROOT = Path(__file__).parents[1]
SCRIPTS, KEPT, PAGE = ROOT / "examples/trainers", ROOT / "build/trainers", ROOT / "docs/trainers.md"
JAX = "jax_steps"
PACKAGES = ("torch", "transformers", "accelerate", "lightning", "deepspeed", "trl",
            "torchft-nightly", "jax", "flax", "optax", "equinox", "dm-haiku")  # fmt: skip
SECONDS = 120.0  # for one question, on a machine that others use as well
_HEADER = """# What trainers make of their batches

What an item (a predicted token) counts for in a step of other people's trainers, read off with the
[probe](how-to/weigh-a-trainer.md). `bash ci/run trainers` writes this page from
[`examples/trainers/`](../examples/trainers): on two ranks, in micro-batches of two samples, for one
epoch of nineteen samples, which is no whole number of windows or of ranks. *Equal* samples have
three items each, *unequal* ones one to seven.

`n_rk` are the items of the micro-batch on its rank, `n_r` those of the rank in the step, `N` those
of the step, `M` the step's labels before a shift, `W` ranks, `K` micro-batches of the window,
`K_full` of a full one. Where counts are equal, several formulas are one; the simplest is shown. ✓
is what was promised, ✗ is not. A *last* window has fewer micro-batches than K; *uneven* are steps
that not all ranks took, where `W_present` are those that did; – has no accumulation.

"""


def main() -> None:
    """Ask what is named, or everything; write the page from all that was shown."""
    KEPT.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or [path.stem for path in sorted(SCRIPTS.glob("*.py"))]
    names = [] if names == ["--page"] else names
    for name in names:
        print(f"{name}…", flush=True)
        rows = _jax_rows() if name == JAX else _torch_rows(SCRIPTS / f"{name}.py")
        (KEPT / f"{name}.json").write_text(json.dumps(list(rows)), encoding="utf-8")
    PAGE.write_text(_HEADER + "\n".join(_page()), encoding="utf-8")
    print(PAGE)


def _torch_rows(script: Path) -> Iterator[dict[str, Any]]:
    for trainer, verdict in ask(declared_in(script), QUESTIONS, SECONDS):
        if is_of_a_port(verdict):
            raise SystemExit(f"{trainer.name}: its port was taken again and again: try later")
        yield _row(trainer.name, trainer.promise, verdict)


def _jax_rows() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(SCRIPTS))
    import jax_steps

    for function in jax_steps.PROBED:
        for question in QUESTIONS:
            try:
                done = function(question.lengths, question.batch_size, question.accumulate)
            except NotImplementedError as error:
                verdict = TrainerVerdict(
                    question, function.__doc__, problem=str(error), kind="unsupported"
                )
            else:
                verdict = judge(done, question, function.__doc__)
            yield _row(function.__name__, function.__doc__, verdict)
    for function in jax_steps.WEIGHED:
        weights = function()
        weights.verify(function.__doc__)
        part = {"kind": "full", "status": "conforms", "formula": weights.formula, "names": []}
        yield {"trainer": function.__name__, "promise": function.__doc__, "question": "unequal-k1",
               "parts": [part], "samples": [], "problem": ""}  # fmt: skip


def _row(trainer: str, promise: str, verdict: TrainerVerdict) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "promise": promise,
        "question": verdict.question.name,
        "parts": [asdict(part) for part in verdict.parts],
        "samples": list(verdict.samples),
        "problem": verdict.problem,
    }


def _page() -> Iterator[str]:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if _has(name)]
    yield f"With {', '.join(versions)}, on CPUs.\n"
    for script in sorted(SCRIPTS.glob("*.py")):
        kept = KEPT / f"{script.stem}.json"
        rows = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        title, _, rest = (ast.get_docstring(ast.parse(script.read_text("utf-8"))) or "").partition(
            "\n"
        )
        yield f"## {title.rstrip('.')}\n"
        yield f"[`{script.name}`](../examples/trainers/{script.name}). {_linked(rest.strip())}\n"
        yield from _table(rows) if rows else ["Not run yet."]
        yield ""


def _linked(text: str) -> str:
    """Return a docstring's text with its addresses, and the scripts that it names, as links."""
    text = " ".join(f"<{w}>" if w.startswith("https://") else w for w in text.split())
    return re.sub(r"`(reports/\w+\.py)`", r"[`\1`](../examples/trainers/\1)", text)


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = list(dict.fromkeys(row["trainer"] for row in rows))
    questions = [q.name for q in QUESTIONS if any(row["question"] == q.name for row in rows)]
    heads = [f"{name.partition('-k')[0]}, K = {name.partition('-k')[2]}" for name in questions]
    yield f"| trainer | promised | {' | '.join(heads)} | samples |"
    yield "|---" * (len(heads) + 3) + "|"
    for name in names:
        own = {row["question"]: row for row in rows if row["trainer"] == name}
        cells = [_cell(own.get(question)) for question in questions]
        facts = list(dict.fromkeys(_short(f) for row in own.values() for f in row["samples"]))
        promise = next(iter(own.values()))["promise"]
        yield f"| `{name}` | `{promise}` | {' | '.join(cells)} | {'; '.join(facts)} |"


def _short(fact: str) -> str:
    """Return a fact of samples without their numbers, which a shuffle draws."""
    head, colon, rest = fact.partition(": ")
    many = len(rest.split(", "))
    head = head.removeprefix("samples")
    return f"{many} sample{'s' * (many != 1)}{head}" if colon else fact.partition(" ")[2]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "no accumulation" in row["problem"]:
        return "–"
    if row["problem"]:
        return row["problem"].replace("|", "\\|")[:200]
    told = []
    for part in row["parts"]:
        sign = "✓" if part["status"] == "conforms" else "✗" if part["status"] == "fail" else "–"
        where = "" if part["kind"] == "full" else f"{part['kind']}: "
        names = f" ({', '.join(part['names'])})" if part["names"] else ""
        told.append(f"{where}{sign} {part['formula'].split(' = ')[0]}{names}")
    return "<br>".join(told)


if __name__ == "__main__":
    main()
