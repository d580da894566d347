"""Writes `conformance/run/quick_cases.txt` again: after a new case, mistake or clause.

python -m ci.quick_cases            a minute: it answers every case with every known mistake
"""

from conformance.proofs.kill_matrix import kills
from conformance.proofs.quick_cover import quick_cover, small_cases
from conformance.report.progress import counted
from conformance.run.quick import FILE

HEAD = "# The cases of `conformance run --quick`: `python -m ci.quick_cases` makes this file.\n"


def text_of(names: list[str]) -> str:
    """Returns the file's text: a case a line."""
    return HEAD + "".join(f"{name}\n" for name in names)


def main() -> None:
    """Chooses the cases, and writes them."""
    cases = small_cases()
    chosen = quick_cover(cases, kills(cases, counted(len(cases), print)))
    FILE.write_text(text_of(chosen), encoding="utf-8")
    print(f"{FILE.name}: {len(chosen)} cases")


if __name__ == "__main__":
    main()
