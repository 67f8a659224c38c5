"""Redis is never the source of truth: it is emptied in the middle of a thousand runs, and all of them end."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from collegium.app import Collegium
from collegium.config import Settings, WorkerSection
from collegium.domain.head import FINISHED, HeadQuery
from collegium.domain.plan import Plan, Task
from collegium.testing.servers import redis_server
from collegium.wiring import open_collegium

RUNS = 1_000
PLAN = Plan(
    tasks=(
        Task(id="one", title="One", capability="operate", instructions="Do one."),
        Task(id="two", title="Two", capability="operate", instructions="Do two.", depends_on=("one",)),
    )
)


@pytest.mark.timeout(300)
async def test_redis_is_emptied_in_the_middle_of_a_thousand_runs(postgres_url: str, tmp_path: Path) -> None:
    script = {"ordered": False, "step": [{"reply": "Done.", "times": "any"}]}
    (tmp_path / "script.json").write_text(json.dumps(script))
    with redis_server() as redis:
        settings = Settings(
            data_dir=tmp_path / "data", store=postgres_url, redis=redis.url, worker=WorkerSection(lease_s=5.0)
        )
        async with AsyncExitStack() as stack:
            model = f"scripted:{tmp_path / 'script.json'}"
            one, _ = [
                await stack.enter_async_context(open_collegium(settings, scope="all", model=model)) for _ in range(2)
            ]
            for start in range(0, RUNS, 100):
                await asyncio.gather(*(one.submit(f"goal {start + n}", plan=PLAN) for n in range(100)))
            await _until(one, RUNS // 10)
            _flush(redis.port)
            ended = await _until(one, RUNS)
    assert len(ended) == RUNS
    assert set(ended) == {"succeeded"}


async def _until(app: Collegium, wanted: int) -> list[str]:
    async with asyncio.timeout(200):
        while True:
            heads = await app.runs(HeadQuery(statuses=FINISHED, limit=2 * RUNS))
            if len(heads) >= wanted:
                return [head.status for head in heads]
            await asyncio.sleep(0.05)


def _flush(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")
