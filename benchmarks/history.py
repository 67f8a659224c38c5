"""What a step adds to the stored history of a long conversation.

    python benchmarks/history.py [--json] [--calls N] [--result-bytes N] [--folder PATH]

One agent makes 100 tool calls of 5 KB each: in a conversation that starts with them, and in one that holds 200,000
tokens already. Shown are the bytes that a step adds to the rows of the store, in the first and in the last ten of
these steps, and how the store's file grows. Where the whole conversation is stored again with every step, the last
steps cost more than the first, and a task of n steps takes room for n * n. LangGraph lives in ``.venv-bench`` (``make
bench`` makes it); without it that line is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
SYSTEMS = {"ours": "collegium", "langgraph": "LangGraph, SqliteSaver"}
CASES = [
    # name, tokens that are there already, context of the model in tokens
    ("from the start", 0, 128_000),
    ("on 200,000 tokens", 200_000, 200_000),
    ("small model, 16,000 tokens", 0, 16_000),
]
BAR = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--calls", type=int, default=100, help="tool calls that are counted")
    parser.add_argument("--result-bytes", type=int, default=5_000, help="size of their results")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument("--folder", default=None, help="where the stores are put")
    options = parser.parse_args()
    wanted = [name for name in SYSTEMS if not options.only or name in options.only]
    systems = [name for name in wanted if name != "langgraph" or BENCH_PYTHON.exists()]
    results = []
    for case, start_tokens, context_tokens in CASES:
        plan = {
            "start_tokens": start_tokens,
            "context_tokens": context_tokens,
            "calls": options.calls,
            "result_bytes": options.result_bytes,
            "folder": options.folder,
        }
        for name in systems:
            if name == "langgraph" and context_tokens < 100_000:
                continue  # it leaves the size of a request to its user
            results.append({"case": case, "system": name, **figures(child(name, plan))})
    document = {
        "benchmark": "history",
        "python": platform.python_version(),
        "calls": options.calls,
        "result_bytes": options.result_bytes,
        "left_out": [name for name in wanted if name not in systems],
        "results": results,
    }
    show(document)
    if options.json:
        print(json.dumps(document))


def child(name: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Runs one conversation in a fresh process."""
    python = str(BENCH_PYTHON) if name == "langgraph" else sys.executable
    environment = {k: v for k, v in os.environ.items() if "_API_KEY" not in k and not k.startswith("COLLEGIUM")}
    done = subprocess.run(
        [python, str(HERE / "_history_child.py"), name],
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def figures(measured: dict[str, Any]) -> dict[str, Any]:
    """Bytes per step in the first and the last tenth of the steps, and what the file grew by per step on average."""
    rows = measured["rows"]
    tenth = max(1, len(rows) // 10)
    first, last = statistics.mean(rows[:tenth]), statistics.mean(rows[-tenth:])
    return {
        "first": first,
        "last": last,
        "ratio": last / first,
        "is_flat": abs(last / first - 1) <= BAR,
        "rows": sum(rows),
        "file_per_step": (measured["file"] - measured["file_before"]) / len(rows),
        "file": measured["file"],
        "compactions": measured["compactions"],
    }


def show(document: dict[str, Any]) -> None:
    print(
        f"{document['calls']} tool calls of {document['result_bytes']:,} bytes; bytes per step in the first and the "
        f"last tenth of them; Python {document['python']}"
    )
    print(
        f"{'':28}{'system':24}{'first':>12}{'last':>12}{'ratio':>8}{'file/step':>12}{'file in all':>14}"
        f"{'compacted':>11}"
    )
    label = ""
    for row in document["results"]:
        case = row["case"] if row["case"] != label else ""
        label = row["case"]
        print(
            f"{case:28}{SYSTEMS[row['system']]:24}{row['first']:>12,.0f}{row['last']:>12,.0f}{row['ratio']:>8.2f}"
            f"{row['file_per_step']:>12,.0f}{row['file']:>14,}{row['compactions']:>11}"
        )
    for name in document["left_out"]:
        print(f"{SYSTEMS[name]} was left out: {BENCH_PYTHON.parent.parent.name} is not there: make bench")
    ours = [row for row in document["results"] if row["system"] == "ours"]
    kept = "kept" if all(row["is_flat"] for row in ours) else "NOT kept"
    print(f"bar: the last tenth within {BAR:.0%} of the first: {kept} by collegium")


if __name__ == "__main__":
    main()
