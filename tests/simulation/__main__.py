"""``python -m tests.simulation --seeds 1000``: many worlds, until one of them breaks a rule."""

from __future__ import annotations

import getopt
import logging
import sys
import time
from collections import Counter

from tests.simulation.scenario import random_scenario
from tests.simulation.world import Result, World

SHOWN = 40


def run_seed(seed: int) -> Result:
    """The world of ``seed``, from its beginning to its end."""
    return World(random_scenario(seed), seed).run()


def main(arguments: list[str]) -> int:
    """Runs seeds; 0 when every invariant held in all of them."""
    options = dict(getopt.getopt(arguments, "v", ["seeds=", "from=", "seed="])[0])
    first = int(options.get("--seed", options.get("--from", "0")))
    count = 1 if "--seed" in options else int(options.get("--seeds", "100"))
    logging.disable(logging.CRITICAL)
    started, events, faults = time.monotonic(), 0, Counter[str]()
    statuses: Counter[str] = Counter()
    virtual_s = 0.0
    for seed in range(first, first + count):
        result = run_seed(seed)
        events += result.events
        virtual_s += result.seconds
        faults += result.faults
        statuses += result.statuses
        if "-v" in options:
            _say("\n".join(result.trace))
        if result.violation is not None:
            _say(f"seed {seed} breaks: {result.violation}")
            _say("\n".join(["the last events:", *result.trace[-SHOWN:]]))
            _say(f"again: python -m tests.simulation --seed {seed} -v")
            return 1
    seconds = time.monotonic() - started
    _say(
        f"{count:,} seeds, {events:,} events, {sum(statuses.values()):,} runs ({_counts(statuses)}), "
        f"{sum(faults.values()):,} faults ({_counts(faults)}), {virtual_s:,.0f} s simulated in {seconds:.1f} s"
    )
    return 0


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
