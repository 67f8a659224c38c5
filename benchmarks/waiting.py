"""What runs cost that wait for a person or for time: memory, idle CPU, listings, and how soon they go on.

    python benchmarks/waiting.py [--json] [--runs N] [--live N] [--idle-s SECONDS] [--folder FOLDER]

Half of the runs wait for the answer to a question, half for tomorrow. They are written through the journal as a worker
would have left them; then a fresh process opens the store, works on all of it, and is measured: its memory beside that
of the same process on an empty store. Answers are given to some of the runs, and others come due: the time until their
next attempt starts is "to go on". The second part is a process whose own runs (``--live``) ask and wait.
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
BAR_BYTES = 20 * 1024
"""P5: memory per waiting run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--runs", type=int, default=50_000, help="runs that wait in the store")
    parser.add_argument("--live", type=int, default=2_048, help="runs that one process takes up to their question")
    parser.add_argument("--idle-s", type=float, default=5.0, help="how long the process is watched doing nothing")
    parser.add_argument("--folder", default=None, help="where the store is put (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waiting-", dir=options.folder) as folder:
        plan: dict[str, Any] = {
            "runs": options.runs,
            "live": options.live,
            "idle_s": options.idle_s,
            "folder": f"{folder}/store",
            "empty": f"{folder}/empty",
        }
        document = {"benchmark": "waiting", "python": platform.python_version(), "cores": os.cpu_count(), **plan}
        for part in ("build", "hold", "live"):
            print(f"{part} ...", file=sys.stderr)
            document |= child(part, plan)
            if part == "build":
                document["store_bytes"] = sum(f.stat().st_size for f in Path(plan["folder"]).iterdir() if f.is_file())
    document["bytes_per_run"] = (document["after_bytes"] - document["before_bytes"]) / options.runs
    show(document)
    if options.json:
        print(json.dumps(document))


def child(part: str, plan: dict[str, Any]) -> dict[str, Any]:
    """One part, in a fresh process."""
    environment = {k: v for k, v in os.environ.items() if "_API_KEY" not in k and not k.startswith("COLLEGIUM")}
    command = [sys.executable, str(HERE / "_waiting_child.py"), part]
    done = subprocess.run(
        command, input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show(d: dict[str, Any]) -> None:
    mib = 1024 * 1024
    print(f"waiting runs; Python {d['python']}, {d['cores']} cores; bar: {BAR_BYTES / 1024:.0f} KiB for each")
    print(f"{d['runs']:,} runs in a store of {d['store_bytes'] / mib:.0f} MiB, written in {d['build_s']:.1f} s")
    print(
        f"  memory of a process that looks after all   {d['after_bytes'] / mib:8.1f} MiB, with an empty store "
        f"{d['before_bytes'] / mib:.1f} MiB: {d['bytes_per_run'] / 1024:.3f} KiB per run"
    )
    print(
        f"  after listing its questions, and answering {d['asked_bytes'] / mib:8.1f} MiB, {d['woken_bytes'] / mib:.1f}"
    )
    print(f"  opening the store                          {1_000 * d['opened_s']:8.1f} ms")
    print(
        f"  share of a core used while idle            {d['idle_cpu']:8.2%}, "
        f"with an empty store {d['idle_cpu_empty']:.2%}"
    )
    print(f"  finding what is due (a sweep)              {d['due_ms']:8.2f} ms")
    print(f"  first page of runs, of waiting runs        {d['page_ms']:8.2f} ms, {d['waiting_page_ms']:.2f} ms")
    print(f"  the inbox (up to 1,000 questions)          {d['inbox_ms']:8.1f} ms")
    print(f"  to go on after an answer                   {spread(d['answer_ms'])}")
    print(f"  to go on when the time has come            {spread(d['timer_ms'])}")
    print(f"{d['live']:,} runs that one process took up to their question, in {d['live_s']:.1f} s")
    print(f"  memory                                     {d['live_bytes'] / 1024:8.2f} KiB per run")
    print(f"  coroutines in the process                  {d['live_coroutines']:8}")
    print(f"  share of a core used while idle            {d['live_idle_cpu']:8.2%}")
    print(f"  to go on after an answer                   {spread(d['live_answer_ms'])}")


def spread(taken_ms: list[float]) -> str:
    """Median and 95th percentile."""
    ranked = sorted(taken_ms)
    return (
        f"{statistics.median(ranked):8.1f} ms p50, {ranked[int(0.95 * (len(ranked) - 1))]:.1f} ms p95 ({len(ranked)})"
    )


if __name__ == "__main__":
    main()
