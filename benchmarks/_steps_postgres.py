"""The limits on PostgreSQL: a bare HTTP client that keeps every step, with a commit per step or with a group commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from _steps_bare import client
from _steps_child import RunOnce, database

TABLE = "CREATE TABLE step (run text, number integer, body bytea, PRIMARY KEY (run, number))"
INSERT = "INSERT INTO step VALUES (%s, %s, %s)"
INSERT_ALL = "INSERT INTO step SELECT * FROM unnest(%s::text[], %s::integer[], %s::bytea[])"
Step = tuple[str, int, bytes]


@asynccontextmanager
async def bare_postgres(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """Every step is committed by itself, on one of ten connections."""
    opening = [psycopg.AsyncConnection.connect(database(), autocommit=True) for _ in range(min(10, at_once))]
    connections = await asyncio.gather(*opening)
    await connections[0].execute(TABLE)
    free: asyncio.Queue[psycopg.AsyncConnection[tuple[object, ...]]] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)

    async def keep(run: str, step: int, body: bytes) -> None:
        connection = await free.get()
        await connection.execute(INSERT, (run, step, body), prepare=True)
        free.put_nowait(connection)

    async with client(url, at_once, keep) as run_once:
        yield run_once
    for connection in connections:
        await connection.close()


@asynccontextmanager
async def group_postgres(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """One connection commits whatever has come while it was busy: many runs share one fsync."""
    connection = await psycopg.AsyncConnection.connect(database(), autocommit=True)
    await connection.execute(TABLE)
    queue: list[tuple[Step, asyncio.Future[None]]] = []
    wake = asyncio.Event()

    async def write() -> None:
        while True:
            await wake.wait()
            wake.clear()
            batch = queue[:]
            del queue[: len(batch)]
            if batch:
                columns = [list(column) for column in zip(*(step for step, _ in batch), strict=True)]
                await connection.execute(INSERT_ALL, columns, prepare=True)
                for _, future in batch:
                    future.set_result(None)

    async def keep(run: str, step: int, body: bytes) -> None:
        future = asyncio.get_running_loop().create_future()
        queue.append(((run, step, body), future))
        wake.set()
        await future

    writing = asyncio.create_task(write())
    async with client(url, at_once, keep) as run_once:
        yield run_once
    writing.cancel()
    await connection.close()
