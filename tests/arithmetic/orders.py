"""Runs rules and layers in random orders, and prints how near each came to its bound.

python -m tests.arithmetic.orders 100000
"""

import sys
import time
import zlib
from dataclasses import dataclass

import numpy as np

from conformance.arithmetic import Running, Uncertain
from conformance.arithmetic.ball import Ball
from tests.arithmetic.layer_orders import LAYERS
from tests.arithmetic.machines import Rounding, WorstCase
from tests.arithmetic.rules import RULES

DTYPES = ("f16", "bf16", "f32", "f64")
MACHINES = (Rounding, WorstCase)


@dataclass
class Tally:
    """Trials of one rule on one kind of machine; the nearest came to `worst` of its bound."""

    trials: int = 0
    outside: int = 0
    uncertain: int = 0
    worst: float = 0.0


def tried(rule, machine, dtype, calls, tally=None):
    """Calls a rule so many times, each with data and an order of its own."""
    tally = tally or Tally()
    rng = np.random.default_rng(zlib.crc32(f"{rule.__name__}/{machine.__name__}/{dtype}".encode()))
    for _ in range(calls):
        runner = machine(dtype)
        with np.errstate(all="ignore"):
            result, formula = rule(runner, rng)
            try:
                bound = formula(Running(dtype))
            except Uncertain:
                tally.uncertain += 1
                continue
            exact = formula(Ball()) if machine is Rounding else bound.value
            error = runner.error(result, exact)
            ratios = np.where(error == 0, 0, error / np.ravel(bound.error))
        # What overflows has no bound: none is claimed of numbers out of the dtype's range.
        ratios = np.where(np.isfinite(np.ravel(getattr(result, "value", result))), ratios, 0)
        tally.trials += ratios.size
        tally.outside += int((~(ratios <= 1)).sum())
        tally.worst = max(tally.worst, float(np.nanmax(ratios)))
    return tally


def main(trials):
    rules = (*RULES, *LAYERS)
    calls = -(-trials // (len(rules) * len(DTYPES) * len(MACHINES) * 32))
    everything, start = Tally(), time.perf_counter()
    print(f"{'rule':34}{'rounded':>9}{'worst case':>12}{'trials':>9}{'no bound':>9}{'above':>7}")
    for rule in rules:
        each = [Tally() for _ in MACHINES]
        for machine, tally in zip(MACHINES, each, strict=True):
            for dtype in DTYPES:
                tried(rule, machine, dtype, calls, tally)
        count, outside, uncertain = (
            sum(getattr(tally, name) for tally in each)
            for name in ("trials", "outside", "uncertain")
        )
        worst = [tally.worst for tally in each]
        name = rule.__name__.replace("_", " ")
        print(f"{name:34}{worst[0]:9.3f}{worst[1]:12.3f}{count:9}{uncertain:9}{outside:7}")
        everything.trials += count
        everything.outside += outside
    seconds = time.perf_counter() - start
    print(f"{everything.trials} trials, {everything.outside} above, {seconds:.0f} s")
    return everything.outside > 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
