"""How long a published task waits for a worker that has nothing else to do, and what waiting costs.

    python benchmarks/dispatch.py [--json] [--runs N] [--every SECONDS] [--rounds N] [--folder DIR]

Runs of one task are submitted at a calm rate through the public API, first in one process with the bus in its memory,
then from one process to another over one SQLite store. A wait begins when the task is handed to the bus, and ends when
``task.started`` is durable: it includes the claim, the decision and its commit. Both moments are taken from the
machine's monotonic clock, which all processes share. The first ten runs of each round are left out.

The idle worker looks after the whole store (waiting on the bus, beats, sweep) for ten seconds without any run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHILD = HERE / "_dispatch_child.py"
BAR = {"p50_ms": 10.0, "p99_ms": 50.0, "idle_share": 0.01}
SCRIPT = {"ordered": False, "step": [{"reply": "Done.", "times": "any"}]}
MODES = {"one": "one process, bus in memory", "two": "two processes, one SQLite store"}
LEASES_S = (10.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--runs", type=int, default=300, help="runs of each round")
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two runs")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median of each figure is shown")
    parser.add_argument("--folder", default=None, help="where the stores are put (default: the temporary folder)")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    idle: dict[float, list[float]] = {lease_s: [] for lease_s in LEASES_S}
    for number in range(options.rounds):
        for mode, about in MODES.items():
            print(f"round {number + 1} of {options.rounds}: {about}", file=sys.stderr)
            rounds[mode].append(figures(waits(mode, options)))
        for lease_s in LEASES_S:
            print(f"round {number + 1} of {options.rounds}: idle, lease {lease_s:g} s", file=sys.stderr)
            idle[lease_s].append(idle_share(options, lease_s))
    document = {
        "benchmark": "dispatch",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "runs": options.runs,
        "every_s": options.every,
        "bar": BAR,
        "dispatch": [
            {"mode": mode, **{key: statistics.median(r[key] for r in rows) for key in rows[0]}}
            for mode, rows in rounds.items()
        ],
        "idle": [{"lease_s": lease_s, "share": statistics.median(shares)} for lease_s, shares in idle.items()],
    }
    show(document)
    if options.json:
        print(json.dumps(document))


def waits(mode: str, options: argparse.Namespace) -> list[float]:
    """Seconds from publication to start of every run but the first ten."""
    with tempfile.TemporaryDirectory(prefix="dispatch-", dir=options.folder) as folder:
        place(folder)
        if mode == "one":
            told = ended(begin("alone", folder, options))
            published, started = told["published"], told["started"]
        else:
            worker = begin("worker", folder, options)
            published = ended(begin("submitter", folder, options))["published"]
            started = ended(worker)["started"]
    both = sorted((published[run], started[run]) for run in published if run in started)
    if len(both) < options.runs:
        raise SystemExit(f"{options.runs} runs were to be seen and {len(both)} were")
    return [end - begin_ for begin_, end in both[-options.runs :]]


def idle_share(options: argparse.Namespace, lease_s: float) -> float:
    """Share of a core that a worker without work takes."""
    with tempfile.TemporaryDirectory(prefix="dispatch-", dir=options.folder) as folder:
        place(folder)
        return float(ended(begin("idle", folder, options, lease_s=lease_s))["cpu_share"])


def place(folder: str) -> None:
    (Path(folder) / "script.json").write_text(json.dumps(SCRIPT))


def begin(role: str, folder: str, options: argparse.Namespace, *, lease_s: float = 10.0) -> subprocess.Popen[str]:
    """Starts a process and returns when it is ready."""
    environment = {k: v for k, v in os.environ.items() if "_API_KEY" not in k and not k.startswith("COLLEGIUM")}
    process = subprocess.Popen(
        [sys.executable, str(CHILD), role, folder, str(options.runs), str(options.every), str(lease_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise SystemExit(f"the process of the role {role} did not start")
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process says at its end."""
    out, _ = process.communicate()
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    return document


def figures(waits_s: list[float]) -> dict[str, float]:
    ordered = sorted(1_000 * w for w in waits_s)
    return {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "max_ms": ordered[-1],
        "count": float(len(ordered)),
    }


def show(document: dict[str, Any]) -> None:
    print(
        f"publication to durable start, a run every {1_000 * document['every_s']:g} ms; Python {document['python']}, "
        f"{document['cores']} cores, median of {document['rounds']} rounds of {document['runs']} runs"
    )
    print(f"{'':34}{'p50 ms':>9}{'x bar':>8}{'p99 ms':>9}{'x bar':>8}{'max ms':>9}")
    for row in document["dispatch"]:
        print(
            f"{MODES[row['mode']]:34}{row['p50_ms']:>9.2f}{row['p50_ms'] / BAR['p50_ms']:>8.2f}"
            f"{row['p99_ms']:>9.2f}{row['p99_ms'] / BAR['p99_ms']:>8.2f}{row['max_ms']:>9.2f}"
        )
    print(f"{'':34}{'% of a core':>12}{'x bar':>8}")
    for row in document["idle"]:
        label = f"idle worker, lease {row['lease_s']:g} s"
        print(f"{label:34}{100 * row['share']:>12.2f}{row['share'] / BAR['idle_share']:>8.2f}")


if __name__ == "__main__":
    main()
