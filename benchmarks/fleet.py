"""A fleet of workers over PostgreSQL and Redis: how much it does, how soon, how fairly, and what a death costs.

    python benchmarks/fleet.py [--json] [--runs N] [--workers N]... [--scale X] [--only PART]...

Workers are processes of ``collegium worker``; PostgreSQL (fsync on) and Redis are started by this script; the model is
a script in the worker that answers after 20 ms. All of it shares this machine's cores.

* ``rate``: so many runs of one task are submitted, fifty at a time; runs a second from the first submit to the last
  end, with 1, 2 and 4 workers.
* ``dispatch``: a run each 50 ms; from the decision that makes a task ready to its durable start, by the journal.
* ``fairness``: one tenant floods ten times as many runs as each of four others; shares of the starts as long as all
  five have work waiting. Fair is a fifth each.
* ``recovery``: four workers, one is killed with tasks in hand; from its death until each of them has started again.
* ``claim``: milliseconds of one claim and settle with 1,000, 10,000 and 100,000 messages waiting, by bus.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.app import Collegium
from collegium.config import Settings, WorkerSection
from collegium.domain.head import HeadQuery
from collegium.domain.message import Message
from collegium.domain.plan import Plan, Task
from collegium.ports import Bus
from collegium.testing.servers import postgres_server, redis_server
from collegium.wiring import open_collegium

PARTS = ("rate", "dispatch", "fairness", "recovery", "claim")
PLAN = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Say that it is done."),))
HELD = "SELECT count(*) FROM fences WHERE open AND worker IS NOT NULL"
LEASE_S = 5.0
TENANTS = ("flood", "a", "b", "c", "d")
WAITING = (1_000, 10_000, 100_000)
CLAIMS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--runs", type=int, default=1_000, help="runs of each rate")
    parser.add_argument("--workers", type=int, action="append", help="numbers of workers (default: 1, 2, 4)")
    parser.add_argument("--scale", type=float, default=1.0, help="scales all else")
    parser.add_argument("--only", action="append", choices=PARTS, help="only these parts")
    options = parser.parse_args()
    parts = options.only or PARTS
    document: dict[str, Any] = {
        "benchmark": "fleet",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "runs": options.runs,
        "lease_s": LEASE_S,
    }
    with postgres_server() as postgres, redis_server() as redis:
        bench = Bench(postgres.url, redis.url, options)
        for part in parts:
            print(part, file=sys.stderr)
            document[part] = getattr(bench, part)()
    show(document)
    if options.json:
        print(json.dumps(document))


class Bench:
    """The measurements, each on a database of its own."""

    def __init__(self, postgres: str, redis: str, options: argparse.Namespace) -> None:
        self._postgres = postgres
        self._redis = redis
        self._options = options

    def rate(self) -> list[dict[str, float]]:
        """Runs a second by number of workers."""
        return [{"workers": n, "runs_s": asyncio.run(self._rate(n))} for n in self._options.workers or (1, 2, 4)]

    async def _rate(self, workers: int) -> float:
        with self._place() as place:
            async with place.open() as app:
                with place.workers(workers):
                    directory = app.stores.directory
                    while directory and len(await directory.cards()) < workers:  # noqa: ASYNC110 other processes do it
                        await asyncio.sleep(0.02)
                    begun = time.perf_counter()
                    for _ in range(self._options.runs // 50):
                        await asyncio.gather(*(app.submit(f"goal {n}", plan=PLAN) for n in range(50)))
                    await all_ended(app)
                    return self._options.runs / (time.perf_counter() - begun)

    def dispatch(self) -> dict[str, float]:
        """Milliseconds from decision to start, two workers that have little to do."""
        return asyncio.run(self._dispatch(int(300 * self._options.scale)))

    async def _dispatch(self, runs: int) -> dict[str, float]:
        with self._place() as place:
            async with place.open() as app:
                with place.workers(2):
                    await (await app.submit("warm", plan=PLAN)).result()
                    for number in range(runs):
                        begun = time.monotonic()
                        await app.submit(f"goal {number}", plan=PLAN)
                        await asyncio.sleep(max(0.0, begun + 0.05 - time.monotonic()))
                    await all_ended(app)
                return spread([1_000 * wait for _, wait in await starts(app, "default")])

    def fairness(self) -> dict[str, Any]:
        """Share of the starts by tenant while all have work waiting."""
        return asyncio.run(self._fairness(int(100 * self._options.scale)))

    async def _fairness(self, each: int) -> dict[str, Any]:
        with self._place() as place:
            async with place.open() as app:
                for tenant in TENANTS:
                    for start in range(0, each * (10 if tenant == "flood" else 1), 50):
                        await asyncio.gather(
                            *(app.submit(f"goal {start + n}", plan=PLAN, tenant=tenant) for n in range(50))
                        )
                with place.workers(2, concurrency=4):
                    await all_ended(app)
                begun = sorted([(at, tenant) for tenant in TENANTS for at, _ in await starts(app, tenant)])
        last = min(max(i for i, (_, t) in enumerate(begun) if t == tenant) for tenant in TENANTS)
        counted = Counter(tenant for _, tenant in begun[: last + 1])
        return {tenant: counted[tenant] / (last + 1) for tenant in TENANTS}

    def recovery(self) -> dict[str, float]:
        """Seconds from a worker's death to the next start of each of its tasks."""
        rounds = max(1, int(3 * self._options.scale))
        return spread([s for _ in range(rounds) for s in asyncio.run(self._recovery())])

    async def _recovery(self) -> list[float]:
        with self._place(latency_s=1.0) as place:
            async with place.open() as app:
                with place.workers(4, concurrency=20) as processes:
                    await asyncio.gather(*(app.submit(f"goal {n}", plan=PLAN) for n in range(80)))
                    while place.count(HELD) < 60:  # noqa: ASYNC110 other processes do it
                        await asyncio.sleep(0.01)
                    died_at = datetime.now(UTC)
                    processes[0].kill()
                    await all_ended(app)
                taken = []
                for head in await app.runs(HeadQuery(limit=500)):
                    events = [e async for e in app.events(head.run)]
                    lapsed = next((e for e in events if e.type == "task.lapsed"), None)
                    if lapsed is not None:
                        again = next(e for e in events if e.seq > lapsed.seq and e.type == "task.started")
                        taken.append((again.at - died_at).total_seconds())
                return taken

    def claim(self) -> list[dict[str, Any]]:
        """Milliseconds of a claim and its settlement by number of messages that wait."""
        return [row for name in ("memory", "sqlite", "redis") for row in asyncio.run(self._claim(name))]

    async def _claim(self, name: str) -> list[dict[str, Any]]:
        rows = []
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            async with self._bus(name, Path(folder)) as bus:
                await bus.claim(["tasks.a"], "workers")
                there = 0
                for waiting in WAITING:
                    await fill(bus, there, waiting)
                    there = waiting
                    times = []
                    for n in range(CLAIMS):
                        begun = time.perf_counter()
                        (claim,) = await bus.claim(["tasks.a"], "workers")
                        await bus.settle(claim)
                        times.append(1_000 * (time.perf_counter() - begun))
                        await bus.publish(message(there + n + 10_000_000 * waiting))
                    rows.append({"bus": name, "waiting": waiting, **spread(times)})
        return rows

    @asynccontextmanager
    async def _bus(self, name: str, folder: Path) -> AsyncIterator[Bus]:
        async with AsyncExitStack() as stack:
            if name == "memory":
                yield MemoryBus(SystemClock())
                return
            bus: SqliteBus | RedisBus
            if name == "sqlite":
                bus = SqliteBus(folder / "bus.db", SystemClock())
            else:
                bus = RedisBus(self._redis, SystemClock(), prefix=f"claim-{time.time_ns()}")
            stack.push_async_callback(bus.aclose)
            yield bus

    @contextmanager
    def _place(self, *, latency_s: float = 0.02) -> Iterator[Place]:
        name = f"fleet_{time.time_ns()}"
        with psycopg.connect(self._postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            script = {"ordered": False, "step": [{"reply": "Done.", "times": "any", "delay_s": latency_s}]}
            (Path(folder) / "script.json").write_text(json.dumps(script))
            yield Place(Path(folder), f"{self._postgres.rpartition('/')[0]}/{name}", self._redis)


class Place:
    """Where one measurement happens."""

    def __init__(self, folder: Path, postgres: str, redis: str) -> None:
        self.folder = folder
        self.postgres = postgres
        self.redis = redis
        self.model = f"scripted:{folder / 'script.json'}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Collegium]:
        """The submitter, in this process."""
        settings = Settings(
            data_dir=self.folder / "submitter",
            store=self.postgres,
            redis=self.redis,
            worker=WorkerSection(lease_s=LEASE_S),
        )
        async with open_collegium(settings, scope="none", model=self.model) as app:
            yield app

    @contextmanager
    def workers(self, count: int, *, concurrency: int = 64) -> Iterator[list[subprocess.Popen[bytes]]]:
        """So many worker processes."""
        environment = {k: v for k, v in os.environ.items() if "_API_KEY" not in k and not k.startswith("COLL")}
        environment |= {
            "COLLEGIUM_STORE": self.postgres,
            "COLLEGIUM_REDIS": self.redis,
            "COLLEGIUM_MODEL": self.model,
            "COLLEGIUM_WORKER__LEASE_S": str(LEASE_S),
        }
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "collegium.cli", "worker", "--concurrency", str(concurrency)],
                env=environment | {"COLLEGIUM_DATA_DIR": str(self.folder / f"worker-{n}")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for n in range(count)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)

    def count(self, query: str) -> int:
        """A number out of the database."""
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[arg-type] # of this file
            return int(row[0]) if row else 0


async def all_ended(app: Collegium) -> None:
    """Returns when no run is open any more."""
    live = HeadQuery(statuses=frozenset({"queued", "running", "waiting", "cancelling"}), limit=1)
    while await app.runs(live):  # noqa: ASYNC110 other processes do it
        await asyncio.sleep(0.02)


async def starts(app: Collegium, tenant: str) -> list[tuple[float, float]]:
    """When each task of a tenant was started, and seconds since it was ready."""
    found = []
    after: str | None = None
    while heads := await app.runs(HeadQuery(tenant=tenant, after=after, limit=500)):
        after = heads[-1].run
        for head in heads:
            events = {e.type: e async for e in app.events(head.run, tenant=tenant)}
            ready, started = events["task.ready"].at, events["task.started"].at
            found.append((started.timestamp(), (started - ready).total_seconds()))
    return found


async def fill(bus: Bus, there: int, wanted: int) -> None:
    """Publishes until ``wanted`` messages wait."""
    for start in range(there, wanted, 500):
        await bus.publish(*(message(start + n) for n in range(500)))


def message(number: int) -> Message:
    tenant = TENANTS[number % len(TENANTS)]
    return Message(id=f"m{number}", topic="tasks.a", tenant=tenant, body={"n": number}, priority=number % 4)


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": statistics.median(ordered),
        "p95": ordered[int(len(ordered) * 0.95)],
        "p99": ordered[int(len(ordered) * 0.99)],
        "max": ordered[-1],
    }


def show(document: dict[str, Any]) -> None:
    print(f"PostgreSQL and Redis; Python {document['python']}, {document['cores']} cores for everything")
    for row in document.get("rate", ()):
        print(f"{row['workers']} workers: {row['runs_s']:,.1f} runs/s of {document['runs']:,}")
    if "dispatch" in document:
        d = document["dispatch"]
        print(f"ready to started: p50 {d['p50']:.1f} ms (bar 10), p99 {d['p99']:.1f} ms (bar 50), {d['count']} runs")
    if "fairness" in document:
        shares = ", ".join(f"{tenant} {share:.3f}" for tenant, share in document["fairness"].items())
        print(f"shares while all have work waiting (fair: 0.200, bar: within 10 %): {shares}")
    if "recovery" in document:
        r = document["recovery"]
        print(
            f"started again after the death of one of four: p50 {r['p50']:.2f} s, p95 {r['p95']:.2f} s, "
            f"max {r['max']:.2f} s ({r['count']} tasks; bar: lease {document['lease_s']:g} s + 2 s)"
        )
    for row in document.get("claim", ()):
        print(
            f"{row['bus']:8}{row['waiting']:>9,} waiting: claim and settle p50 {row['p50']:.3f} ms, "
            f"p99 {row['p99']:.3f} ms"
        )


if __name__ == "__main__":
    main()
