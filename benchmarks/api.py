"""What the API costs: reads and submits per second, beside bare Starlette on the same uvicorn.

    python benchmarks/api.py [--store sqlite|postgres] [--json] [--runs N] [--seconds S] [--rounds N] [--connections N]

``collegium serve --workers 0`` answers over a store with finished runs; bare Starlette answers with the same bytes,
which it holds in memory, and neither asks who is there nor looks anything up. Both run in a process of their own,
the bare one on uvicorn as it comes; the client is a third process on the same cores. "ratio" is ours to
bare, of the medians; "us" is the processor time of the server's process for each answer. Submits are durable before
they are answered; bare Starlette stores nothing. "(key)": a server that asks for keys and counts requests, with rates
that nobody reaches; over SQLite only. ``--store postgres`` starts a PostgreSQL server with fsync on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from collegium.config import load_settings
from collegium.testing.servers import postgres_server
from collegium.wiring import open_collegium

HERE = Path(__file__).parent
GOAL = {"goal": "How long are backups kept?", "model": "scripted:none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="what the runs are in")
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--runs", type=int, default=200, help="finished runs in the store")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is shown")
    parser.add_argument("--connections", type=int, default=16, help="connections of the client")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="api-") as name,
        postgres_server() if options.store == "postgres" else nullcontext() as postgres,
    ):
        folder = Path(name)
        if postgres is not None:
            os.environ["COLLEGIUM_STORE"] = postgres.url
        run = asyncio.run(fill(folder, options.runs))
        results = measure(folder, run, options)
    document = {
        "benchmark": "api",
        "store": options.store,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "runs": options.runs,
        "connections": options.connections,
        "rounds": options.rounds,
        "results": results,
    }
    show(document)
    if options.json:
        print(json.dumps(document))


async def fill(folder: Path, runs: int) -> str:
    """Finished runs in the store below ``folder``; the id of one of them."""
    script = folder / "script.json"
    script.write_text(json.dumps({"ordered": False, "step": [{"reply": "Thirty-five days.", "times": 10_000_000}]}))
    settings = load_settings(None, os.environ, {"data_dir": folder / "data"})
    async with open_collegium(settings, model=f"scripted:{script}") as app:
        handles = [await app.submit(f"How long are backups kept? ({n})") for n in range(runs)]
        for handle in handles:
            await handle.result()
    return handles[runs // 2].id


def measure(folder: Path, run: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All figures."""
    paths = {
        "health": "/healthz",
        "one run": f"/v1/runs/{run}",
        "20 runs": "/v1/runs?limit=20",
        "events": f"/v1/runs/{run}/events",
    }
    keyed = ("one run", "20 runs") if options.store == "sqlite" else ()
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in (*paths, *(f"{name} (key)" for name in keyed), "submit")
    }
    bodies = folder / "bodies"
    bodies.mkdir()
    asking_keys = with_key(folder) if keyed else nullcontext((None, ""))
    with served(folder, "data") as ours, asking_keys as (asking, key):
        for name, path in paths.items():
            (bodies / name.replace(" ", "-")).write_bytes(httpx.get(ours.url + path, timeout=30).content)
        (bodies / "accepted").write_text(json.dumps({"run_id": run}))
        with process([sys.executable, str(HERE / "_api_bare.py"), str(bodies)], folder, str.strip) as bare:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                for name, path in paths.items():
                    found[name].append({
                        "bare": ask(bare, "/" + name.replace(" ", "-"), options),
                        "ours": ask(ours, path, options),
                    })  # fmt: skip
                for name in keyed:
                    found[f"{name} (key)"].append({
                        "bare": ask(bare, "/" + name.replace(" ", "-"), options, key=key),
                        "ours": ask(asking, paths[name], options, key=key),
                    })  # fmt: skip
                found["submit"].append({
                    "bare": ask(bare, "/accepted", options, goal=GOAL),
                    "ours": ask(ours, "/v1/runs", options, goal=GOAL),
                })  # fmt: skip
    return [{"request": name, **middle(rounds)} for name, rounds in found.items()]


def served(folder: Path, data: str) -> AbstractContextManager[Server]:
    """A server of ours over the store in ``data``."""
    serve = [sys.executable, "-m", "collegium.cli", "serve", "--workers", "0", "--port", "0", "--json"]
    return process(serve, folder, lambda line: str(json.loads(line)["url"]), data=data)


@contextmanager
def with_key(folder: Path) -> Iterator[tuple[Server, str]]:
    """A server over a copy of the store that asks for keys, and one of them."""
    shutil.copytree(folder / "data", folder / "keyed")
    (folder / "collegium.toml").write_text("[rates]\nkey_per_minute = 60_000_000\ntenant_per_minute = 60_000_000\n")
    create = [sys.executable, "-m", "collegium.cli", "keys", "create", "--role", "viewer", "--json"]
    environment = {**os.environ, "COLLEGIUM_DATA_DIR": str(folder / "keyed")}
    made = subprocess.run(create, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    with served(folder, "keyed") as server:
        yield server, str(json.loads(made.stdout)["key"])


def ask(
    server: Server, path: str, options: argparse.Namespace, *, goal: object = None, key: str = ""
) -> dict[str, Any]:
    """What one client sees in a few seconds, and what the server's process took for each answer."""
    command = [sys.executable, str(HERE / "_api_load.py"), server.url, path, "--seconds", str(options.seconds)]
    command += ["--connections", str(options.connections)]
    if key:
        command += ["--key", key]
    if goal is not None:
        command += ["--method", "POST", "--body", json.dumps(goal)]
    before_s = server.cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    found["cpu_us"] = 1e6 * (server.cpu_s() - before_s) / sum(found["statuses"].values())
    strange = {status: count for status, count in found["statuses"].items() if not status.startswith("2")}
    if strange:
        raise SystemExit(f"{path} was answered with {strange}")
    return found


def middle(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The medians of all rounds, and the ratio of ours to bare."""
    figures = {
        f"{side}_{key}": statistics.median(r[side][key] for r in rounds)
        for side in ("bare", "ours")
        for key in ("per_s", "p50_ms", "p99_ms", "cpu_us")
    }
    return {
        **figures,
        "ratio": figures["ours_per_s"] / figures["bare_per_s"],
        "cpu_ratio": figures["bare_cpu_us"] / figures["ours_cpu_us"],
    }


class Server(NamedTuple):
    """A server in a process of its own."""

    pid: int
    url: str

    def cpu_s(self) -> float:
        """Processor time that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(command: list[str], folder: Path, url_of: Any, *, data: str = "data") -> Iterator[Server]:
    """A server in a process of its own."""
    environment = {**os.environ, "COLLEGIUM_DATA_DIR": str(folder / data), "COLLEGIUM_MODEL": "scripted:none"}
    with (folder / "log").open("a") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder
        )
    try:
        assert started.stdout is not None
        yield Server(started.pid, url_of(started.stdout.readline()))
    finally:
        started.terminate()
        started.wait(30)


def show(document: dict[str, Any]) -> None:
    print(
        f"{'request':14} {'bare/s':>9} {'ours/s':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8} {'bare p99':>9} "
        f"{'bare us':>8} {'ours us':>8} {'ratio':>6}"
    )
    for one in document["results"]:
        print(
            f"{one['request']:14} {one['bare_per_s']:9,.0f} {one['ours_per_s']:9,.0f} {one['ratio']:6.2f} "
            f"{one['ours_p50_ms']:8.2f} {one['ours_p99_ms']:8.2f} {one['bare_p99_ms']:9.2f} "
            f"{one['bare_cpu_us']:8.1f} {one['ours_cpu_us']:8.1f} {one['cpu_ratio']:6.2f}"
        )


if __name__ == "__main__":
    main()
