"""What a message costs: published one by one and in batches, from publisher to consumer, and read again.

    python benchmarks/bus.py [--json] [--messages N] [--rounds N] [--only SYSTEM]...

Messages carry 1 KiB. "work" is a topic that is claimed (``tasks.*``), "stream" one that is read and replayed. The
embedded bus keeps its messages in an SQLite file that is not fsynced, the Redis one in a server that this script
starts, which fsyncs its log once a second. Each is measured beside a bare writer of the same durability in the same
run: redis-py with pipelines of the same batches to one stream, and an SQLite file with a transaction per batch.

"publish" is one call after the other, each awaited; "batched" hands over a hundred at once; "settled" is claim and
settle of a hundred at a time. "p50" and "p99" are from the call of ``publish`` to the return of ``claim`` in another
bus object, whose consumer waits, one message every two milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.domain.message import Message
from collegium.ports import Bus
from collegium.testing.servers import redis_server

BATCH = 100
PAGE = 1_000
BODY = {"data": "x" * 1_000}
PAYLOAD = json.dumps(BODY)
LATENCY_MESSAGES = 500
SYSTEMS = {
    "memory": "collegium, in memory",
    "sqlite-bare": "bare SQLite, a row per message",
    "sqlite": "collegium, SQLite file",
    "redis-bare": "bare redis-py, one stream",
    "redis": "collegium, Redis",
}
PEERS = {"sqlite": "sqlite-bare", "redis": "redis-bare"}
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--messages", type=int, default=10_000, help="messages of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median of each figure is shown")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="only these systems")
    parser.add_argument("--folder", default=None, help="where files are put (default: the temporary folder)")
    options = parser.parse_args()
    systems = [name for name in SYSTEMS if not options.only or name in options.only]
    rounds: dict[str, list[Figures]] = {name: [] for name in systems}
    with redis_server() as server:
        for number in range(options.rounds):
            for name in systems:
                print(f"round {number + 1} of {options.rounds}: {SYSTEMS[name]}", file=sys.stderr)
                with tempfile.TemporaryDirectory(prefix="bus-", dir=options.folder) as folder:
                    place = Place(Path(folder), server.url, f"{number}-{name}")
                    rounds[name].append(asyncio.run(measure(name, place, options.messages)))
    document = {
        "benchmark": "bus",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "messages": options.messages,
        "batch": BATCH,
        "rounds": options.rounds,
        "results": [
            {"system": name, **{key: statistics.median(f[key] for f in found) for key in found[0]}}
            for name, found in rounds.items()
        ],
    }
    add_ratios(document["results"])
    show(document)
    if options.json:
        print(json.dumps(document))


class Place:
    """Where one measurement keeps its messages."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder = folder
        self.url = url
        self.prefix = prefix

    @asynccontextmanager
    async def buses(self, name: str, count: int) -> AsyncIterator[list[Bus]]:
        """So many bus objects on the same messages; in memory there is only one."""
        async with AsyncExitStack() as stack:
            made: list[Bus] = []
            for _ in range(count):
                if name == "memory":
                    made.append(made[0] if made else MemoryBus(SystemClock()))
                elif name == "sqlite":
                    embedded = SqliteBus(self.folder / "bus.db", SystemClock())
                    stack.push_async_callback(embedded.aclose)
                    made.append(embedded)
                else:
                    shared = RedisBus(self.url, SystemClock(), prefix=self.prefix)
                    stack.push_async_callback(shared.aclose)
                    made.append(shared)
            yield made


async def measure(name: str, place: Place, count: int) -> Figures:
    """All figures of one system."""
    if name == "redis-bare":
        return await measure_redis(place, count)
    if name == "sqlite-bare":
        return await asyncio.to_thread(measure_sqlite, place.folder / "bare.db", count)
    async with place.buses(name, 2) as (one, two):
        figures = await rates(one, count)
        figures |= await latency(one, two)
    return figures


async def one_by_one(bus: Bus, topic: str, count: int) -> None:
    for n in range(count):
        await bus.publish(message(topic, f"one {n}"))


async def batched(bus: Bus, topic: str, count: int) -> None:
    for start in range(0, count, BATCH):
        await bus.publish(*(message(topic, f"many {start + n}") for n in range(BATCH)))


async def rates(bus: Bus, count: int) -> Figures:
    """Messages a second."""
    figures: Figures = {}
    await bus.claim(["tasks.a"], "workers")  # there is somebody to claim them
    for topic, kind in (("tasks.a", "work"), ("news.a", "stream")):
        figures[f"{kind}_publish"] = await rate(lambda topic=topic: one_by_one(bus, topic, count // 10), count // 10)
        figures[f"{kind}_batched"] = await rate(lambda topic=topic: batched(bus, topic, count), count)

    async def settled() -> None:
        left = count // 10 + count
        while left:
            claims = await bus.claim(["tasks.a"], "workers", BATCH)
            await asyncio.gather(*(bus.settle(claim) for claim in claims))
            left -= len(claims)

    async def replayed() -> None:
        after = left = 0
        while page := await bus.read("news.a", after, PAGE):
            after, left = page[-1].seq, left + len(page)
        if left < min(count, 10_000):
            raise RuntimeError(f"{left} messages were there to be read")

    figures["settled"] = await rate(settled, count // 10 + count)
    figures["replay"] = await rate(replayed, min(count + count // 10, 10_000))
    return figures


async def latency(publisher: Bus, consumer: Bus) -> Figures:
    """Milliseconds from ``publish`` to ``claim``."""
    begun: dict[str, float] = {}
    waits: list[float] = []
    await consumer.claim(["tasks.b"], "workers")

    async def consume() -> None:
        while len(waits) < LATENCY_MESSAGES:
            claims = await consumer.claim(["tasks.b"], "workers", 10)
            now = time.perf_counter()
            for claim in claims:
                waits.append(1_000 * (now - begun[claim.message.id]))
                await consumer.settle(claim)
            if not claims:
                await consumer.wait(["tasks.b"], 5.0)

    consuming = asyncio.create_task(consume())
    for n in range(LATENCY_MESSAGES):
        sent = message("tasks.b", f"late {n}")
        begun[sent.id] = time.perf_counter()
        await publisher.publish(sent)
        await asyncio.sleep(0.002)
    await consuming
    ordered = sorted(waits)
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int(len(ordered) * 0.99)]}


async def measure_redis(place: Place, count: int) -> Figures:
    """redis-py alone."""
    client = redis.asyncio.Redis.from_url(place.url)
    stream = f"{place.prefix}:bare"

    async def one_by_one() -> None:
        for _ in range(count // 10):
            await client.xadd(stream, {"body": PAYLOAD})

    async def batched() -> None:
        for _ in range(0, count, BATCH):
            pipeline = client.pipeline(transaction=False)
            for _ in range(BATCH):
                pipeline.xadd(stream, {"body": PAYLOAD})
            await pipeline.execute()

    async def replayed() -> None:
        after = "-"
        while page := await client.xrange(stream, after, "+", PAGE):
            after = f"({page[-1][0].decode()}"

    figures = {"stream_publish": await rate(one_by_one, count // 10), "stream_batched": await rate(batched, count)}
    figures["replay"] = await rate(replayed, count // 10 + count)
    await client.aclose()
    return figures


def measure_sqlite(path: Path, count: int) -> Figures:
    """The interpreter's SQLite alone, in WAL mode and not fsynced, as the embedded bus."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE message (seq INTEGER PRIMARY KEY, body TEXT)")
    begun = time.perf_counter()
    for _ in range(count // 10):
        connection.execute("INSERT INTO message (body) VALUES (?)", (PAYLOAD,))
    figures = {"stream_publish": count / 10 / (time.perf_counter() - begun)}
    begun = time.perf_counter()
    for _ in range(0, count, BATCH):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO message (body) VALUES (?)", [(PAYLOAD,)] * BATCH)
        connection.execute("COMMIT")
    figures["stream_batched"] = count / (time.perf_counter() - begun)
    begun, after = time.perf_counter(), 0
    query = "SELECT seq, body FROM message WHERE seq > ? ORDER BY seq LIMIT ?"
    while page := connection.execute(query, (after, PAGE)).fetchall():
        after = page[-1][0]
    figures["replay"] = (count + count / 10) / (time.perf_counter() - begun)
    connection.close()
    return figures


def message(topic: str, id_: str) -> Message:
    return Message(id=id_, topic=topic, tenant="acme", body=BODY)


async def rate(work: Callable[[], Awaitable[None]], count: int) -> float:
    """So many a second."""
    begun = time.perf_counter()
    await work()
    return count / (time.perf_counter() - begun)


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """Streams against the bare writer of the same durability."""
    for row in rows:
        peer = next((r for r in rows if r["system"] == PEERS.get(row["system"])), None)
        for key in ("stream_publish", "stream_batched", "replay"):
            row[f"{key}_ratio"] = row[key] / peer[key] if peer else None


def show(document: dict[str, Any]) -> None:
    print(
        f"1 KiB messages a second, {document['messages']:,} each, batches of {document['batch']}; Python "
        f"{document['python']}, {document['cores']} cores, median of {document['rounds']} rounds; in brackets: share "
        "of the bare writer"
    )
    heads = (
        "publish stream",
        "batched stream",
        "publish work",
        "batched work",
        "settled",
        "replay",
        "p50 ms",
        "p99 ms",
    )
    print(f"{'':34}" + "".join(f"{head:>17}" for head in heads))
    for row in document["results"]:
        cells = []
        for key in ("stream_publish", "stream_batched", "work_publish", "work_batched", "settled", "replay"):
            ratio = row.get(f"{key}_ratio")
            cells.append("-" if key not in row else f"{row[key]:,.0f}" + (f" ({ratio:.2f})" if ratio else ""))
        cells += [f"{row[key]:.2f}" if key in row else "-" for key in ("p50_ms", "p99_ms")]
        print(f"{SYSTEMS[row['system']]:34}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()
