"""Facts in lines, label first: what a run ran on, and what is known of one failure."""

from collections import Counter
from collections.abc import Iterator, Mapping

from conformance.frameworks.precision import MEASURED
from conformance.run.results import Record, Run

Fact = tuple[str, str]


def facts_of(run: Run) -> tuple[Fact, ...]:
    """Returns what a run ran on: when, by which right answers, versions, devices."""
    environment = run.header.get("environment", {})
    packages = [f"{name} {version}" for name, version in environment.get("packages", {}).items()]
    started = run.header.get("started", "")
    goldens, suite = run.header.get("goldens"), run.header.get("suite")
    facts = {
        "started": _listed(
            started and f"{started[:16].replace('T', ' ')} UTC",
            suite and f"suite {suite}",
            goldens and f"goldens {goldens[:12]}",
        ),
        "system": _listed(
            environment.get("system") or environment.get("platform"),
            environment.get("python") and f"Python {environment['python']}",
        ),
        "packages": _listed(*packages),
        "devices": _listed(*_devices(environment.get("devices", {}))),
        "precision": _precision(environment.get("precision", {})),
        "adapters": _listed(*environment.get("adapters", ())),
        "shard": run.header.get("shard") or "",
    }
    return tuple((label, words) for label, words in facts.items() if words)


def _listed(*words: object) -> str:
    return ", ".join(str(word) for word in words if word)


def _devices(by_framework: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yields the devices of each framework; those that are alike are counted.

    >>> list(_devices({"jax": {"cpu:0": "cpu", "cpu:1": "cpu"}, "torch": {"cuda:0": "H100"}}))
    ['jax 2 × cpu', 'torch cuda (H100)']
    """
    for framework, devices in by_framework.items():
        counts = Counter((name.partition(":")[0], described) for name, described in devices.items())
        for (kind, described), count in counts.items():
            many = f"{count} × " if count > 1 else ""
            yield f"{framework} {many}{kind}" + (f" ({described})" if described != kind else "")


def _precision(settings: Mapping[str, str]) -> str:
    """Says what products of matrices were measured to keep: bounds rest on it."""
    kept: dict[str, list[str]] = {}
    for name, bits in settings.items():
        what, _, where = name.partition(" ")
        if what == MEASURED:
            kept.setdefault(bits, []).append(where)
    words = "; ".join(f"{bits} bits ({', '.join(where)})" for bits, where in kept.items())
    return words and f"matmul keeps {words}"


def facts_of_failure(record: Record, rerun: str) -> tuple[Fact, ...]:
    """Returns what is known of a failing check, one fact each.

    That is what differs and where, what was read off the answer, the mistake, what it does and
    what to write instead, and the line that runs the check again. Where nothing was read off, as in
    files of older versions, the reason stands whole.
    """
    return (*_evidence(record), ("rerun", rerun))


def sentences_of(record: Record) -> tuple[str, ...]:
    """Returns what differs, and what was read off the answer; nothing where nothing was."""
    differs = record.evidence.get("differs", {}).get("words", "")
    return (differs, *record.evidence.get("observed", ())) if differs else ()


def _evidence(record: Record) -> Iterator[Fact]:
    if not (sentences := sentences_of(record)):
        yield "reason", record.reason
        return
    for number, sentence in enumerate(sentences):
        yield "shows" if number else "differs", sentence
    if len(record.fits) > 1:
        yield "mistake", f"{' or '.join(record.fits)}: this case cannot tell them apart"
    elif record.mistake:
        yield "mistake", record.mistake
    for label, name in (("done", "done"), ("write", "advice")):
        if words := record.evidence.get(name):
            yield label, words
