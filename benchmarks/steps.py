"""What a durable step costs, against a scripted model server on loopback, over HTTP.

    python benchmarks/steps.py [--store sqlite|postgres] [--json] [--rounds N] [--scale X] [--only SYSTEM]...

An agent run is model -> read-only tool -> model. A team run is a plan, eight agent runs at once, and a last model call
that adds up. All systems do the same runs in turn, each in a process of its own: a bare HTTP client with an SQLite
commit per step, the same with a group commit (the limit), LangGraph with its SQLite saver, DBOS with SQLite (as it
ships, and on a file in WAL mode), and collegium through its public API. Then the same through OpenAI's SDK: alone with
nothing kept (the limit), and collegium with ``[openai]``. And collegium that encrypts: values in envelopes, and the
whole file with SQLCipher besides (whose commits are not counted). LangGraph and DBOS live in ``.venv-bench``
(``make bench`` makes it); without it their lines are left out.

``--store postgres`` measures the same over a PostgreSQL server that it starts with fsync on: bare client, LangGraph's
PostgreSQL saver, DBOS, and collegium; "commits" are then the server's fsyncs of its log.

CPU is that of the client process. "commits" are those of a run that wrote something, counted in a pass that is not
timed; "mode" is read back from the connections and files. One commit is one fsync with WAL and ``synchronous=FULL``; as
DBOS ships (DELETE, a rollback journal) it is several.
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
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from _steps_child import ADDING, PLANNING, QUESTION

from collegium.testing.servers import postgres_server

HERE = Path(__file__).resolve().parent
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
SYSTEMS = {
    "bare": "bare client, commit per step",
    "group": "bare client, group commit",
    "langgraph": "LangGraph, SQLite saver",
    "dbos": "DBOS, SQLite as it ships",
    "dbos-wal": "DBOS, SQLite in WAL mode",
    "ours": "collegium",
    "ours-sealed": "collegium, envelopes",
    "ours-sqlcipher": "collegium, envelopes, SQLCipher",
    "sdk": "OpenAI SDK, nothing kept",
    "ours-sdk": "collegium through OpenAI SDK",
    "bare-postgres": "bare client, commit per step",
    "group-postgres": "bare client, group commit",
    "langgraph-postgres": "LangGraph, PostgreSQL saver",
    "dbos-postgres": "DBOS, PostgreSQL",
    "ours-postgres": "collegium, PostgreSQL",
}
STORES = {
    "sqlite": [name for name in SYSTEMS if not name.endswith("-postgres")],
    "postgres": [name for name in SYSTEMS if name.endswith("-postgres")],
}
PEERS = frozenset({"langgraph", "dbos", "dbos-wal", "langgraph-postgres", "dbos-postgres"})
"""They live in an environment of their own, and do fewer runs where they are slow."""
MODES = [
    # name, kind of run, runs at once, latency of the model in ms, runs of a quick and of a slow system
    ("agent, 1 at a time", "agent", 1, 0, 200, 50),
    ("agent, 10 at once", "agent", 10, 50, 200, 100),
    ("agent, 100 at once", "agent", 100, 50, 1_000, 200),
    ("team, 1 at a time", "team", 1, 0, 40, 12),
]
SHELVES = [f"shelf{n}" for n in range(1, 9)]
TASKS = [
    *(
        {"id": shelf, "title": shelf, "capability": "stock", "instructions": QUESTION, "depends_on": []}
        for shelf in SHELVES
    ),
    {"id": "sum", "title": "Sum", "capability": "stock", "instructions": ADDING, "depends_on": SHELVES},
]
SCRIPT: dict[str, Any] = {
    "ordered": False,
    "step": [
        {"expect": [PLANNING], "reply": {"tasks": TASKS}, "times": "any"},
        {"expect_last": [ADDING], "reply": "There are 96 pieces in stock.", "times": "any"},
        {"expect_last": ["12 pieces of"], "reply": "There are 12 pieces of A-1034 in stock.", "times": "any"},
        {"tool_calls": [{"name": "stock", "arguments": {"article": "A-1034"}}], "times": "any"},
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median of each figure is shown")
    parser.add_argument("--scale", type=float, default=1.0, help="scales the number of runs")
    parser.add_argument("--store", choices=list(STORES), default="sqlite", help="where runs are kept")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument(
        "--folder", default=None, help="where the stores are put (default: the system's temporary folder)"
    )
    options = parser.parse_args()
    systems = [name for name in STORES[options.store] if not options.only or name in options.only]
    missing = [name for name in systems if not has(name)]
    systems = [name for name in systems if name not in missing]
    with (
        tempfile.TemporaryDirectory(prefix="steps-", dir=options.folder) as folder,
        servers(Path(folder)) as urls,
        postgres_server() if options.store == "postgres" else nullcontext() as server,
    ):
        if server is not None:
            urls["postgres"] = server.url
        fsync_ms = time_fsync(Path(folder))
        counted = {name: child(name, plan(name, urls, folder, scale=0.1, is_counting=True)) for name in systems}
        rounds: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in systems}
        for number in range(options.rounds):
            for name in systems:  # in turn, so that what else the machine does hits all alike
                print(f"round {number + 1} of {options.rounds}: {SYSTEMS[name]}", file=sys.stderr)
                rounds[name].append(child(name, plan(name, urls, folder, scale=options.scale, is_counting=False)))
    results = [figures(name, rounds[name], counted[name]) for name in systems]
    document = {
        "benchmark": "steps",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "fsync_ms": fsync_ms,
        "rounds": options.rounds,
        "left_out": dict.fromkeys(missing, f"{BENCH_PYTHON.parent.parent.name} is not there: make bench"),
        "results": [row for rows in results for row in rows],
    }
    add_ratios(document["results"])
    show(document)
    if options.json:
        print(json.dumps(document))


def has(name: str) -> bool:
    """Whether ``name`` can be measured here."""
    return name not in PEERS or BENCH_PYTHON.exists()


def plan(
    name: str, urls: dict[int | str, str], folder: str, *, scale: float, is_counting: bool
) -> list[dict[str, Any]]:
    """The passes of one process."""
    return [
        {
            "name": mode,
            "kind": kind,
            "at_once": at_once,
            "runs": max(at_once, 10, int(scale * (slow if name in PEERS else quick))),
            "url": urls[latency_ms],
            "server": urls.get("postgres", ""),
            "folder": folder,
            "is_counting": is_counting,
        }
        for mode, kind, at_once, latency_ms, quick, slow in MODES
    ]


def child(name: str, passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs the passes in a fresh process."""
    python = str(BENCH_PYTHON) if name in PEERS else sys.executable
    environment = {k: v for k, v in os.environ.items() if "_API_KEY" not in k and not k.startswith("COLLEGIUM")}
    if passes[0]["is_counting"]:
        environment["STEPS_COUNT"] = "1"
    done = subprocess.run(
        [python, str(HERE / "_steps_child.py"), name],
        input=json.dumps(passes),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    result: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def servers(folder: Path) -> Iterator[dict[int | str, str]]:
    """A scripted model server for each latency, as processes of their own; their URLs by latency in ms."""
    processes: list[subprocess.Popen[str]] = []
    urls: dict[int | str, str] = {}
    try:
        for latency_ms in sorted({latency for _, _, _, latency, _, _ in MODES}):
            steps = [{**step, "delay_s": latency_ms / 1_000} for step in SCRIPT["step"]]
            script = folder / f"script-{latency_ms}.json"
            script.write_text(json.dumps({**SCRIPT, "step": steps}))
            process = subprocess.Popen(
                [sys.executable, str(HERE / "_steps_responses.py"), str(script)],
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            urls[latency_ms] = process.stdout.readline().strip() if process.stdout else ""
            if not urls[latency_ms]:
                raise SystemExit("the scripted model server did not start")
        yield urls
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def time_fsync(folder: Path) -> float:
    """Median of what this disk takes to keep 4 KiB, in ms."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1_000 * (time.perf_counter() - begun))
    return statistics.median(times)


def figures(name: str, rounds: list[list[dict[str, Any]]], counted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per mode: medians over the rounds."""
    rows = []
    for index, (mode, kind, at_once, latency_ms, _, _) in enumerate(MODES):
        passes = [one[index] for one in rounds]
        rows.append(
            {
                "mode": mode,
                "kind": kind,
                "at_once": at_once,
                "latency_ms": latency_ms,
                "system": name,
                "runs": passes[0]["runs"],
                **{key: statistics.median(p[key] for p in passes) for key in ("cpu_ms", "wall_s", "runs_s")},
                "syncs": sum(n for n in counted[index]["syncs"].values()),
                "syncs_by_file": counted[index]["syncs"],
                "synchronous": counted[index]["synchronous"],
                "journal_mode": counted[index]["journal_mode"],
            }
        )
    return rows


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """CPU and throughput of every row against the bare client of its mode."""
    for row in rows:
        base = next((r for r in rows if r["system"] in ("bare", "bare-postgres") and r["mode"] == row["mode"]), None)
        row["cpu_ratio"] = row["cpu_ms"] / base["cpu_ms"] if base else None
        row["runs_s_ratio"] = row["runs_s"] / base["runs_s"] if base else None


def show(document: dict[str, Any]) -> None:
    print(
        f"model -> tool -> model, durable; Python {document['python']}, {document['cores']} cores, "
        f"fdatasync of 4 KiB {document['fsync_ms']:.2f} ms, median of {document['rounds']} rounds"
    )
    print(
        f"{'':20}{'system':33}{'CPU ms/run':>11}{'x bare':>8}{'runs/s':>9}{'x bare':>8}{'wall s':>8}{'runs':>6}"
        f"{'commits/run':>13}{'mode':>13}"
    )
    for mode, _, _, latency_ms, _, _ in MODES:
        label = mode
        for row in document["results"]:
            if row["mode"] != mode:
                continue
            cpu_ratio, rate_ratio = (f"{r:.2f}" if r else "-" for r in (row["cpu_ratio"], row["runs_s_ratio"]))
            print(
                f"{label:20}{SYSTEMS[row['system']]:33}{row['cpu_ms']:>11.2f}{cpu_ratio:>8}{row['runs_s']:>9.1f}"
                f"{rate_ratio:>8}{row['wall_s']:>8.2f}{row['runs']:>6}{row['syncs']:>13.2f}{mode_of(row):>13}"
            )
            label = ""
        print(f"{'':20}(the model takes {latency_ms} ms per call)")
    for name, reason in document["left_out"].items():
        print(f"{SYSTEMS[name]} was left out: {reason}")


def mode_of(row: dict[str, Any]) -> str:
    """How the files of a row that were written to are committed."""
    names = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
    written = [file for file, count in row["syncs_by_file"].items() if count and file in row["journal_mode"]]
    levels = {f"{row['journal_mode'][f]} {names.get(row['synchronous'][f], '?')}" for f in written}
    return "/".join(sorted(levels)) or "-"


if __name__ == "__main__":
    main()
