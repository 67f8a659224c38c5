"""The limits: a bare HTTP client that keeps every step in SQLite, with a commit per step or with a group commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from _steps_child import ADDING, FOUND, GOAL, PLANNING, QUESTION, TOOL, TOOL_ABOUT, RunOnce

Keep = Callable[[str, int, bytes], Awaitable[None]]
"""Stores one step of a run; durable when it returns."""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": TOOL_ABOUT,
            "parameters": {"type": "object", "properties": {"article": {"type": "string"}}, "required": ["article"]},
        },
    }
]
INSERT = "INSERT INTO step VALUES (?, ?, ?)"


@asynccontextmanager
async def bare(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """Every step is committed before the next one, in the event loop's own thread."""
    connection = _open(folder)

    async def keep(run: str, step: int, body: bytes) -> None:
        with connection:
            connection.execute(INSERT, (run, step, body))

    async with client(url, at_once, keep) as run_once:
        yield run_once
    connection.close()


@asynccontextmanager
async def group(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """A writer thread commits whatever has come while it was busy: many runs share one fsync."""
    writer = _Writer(_open(folder))
    async with client(url, at_once, writer.keep) as run_once:
        yield run_once
    writer.close()


class _Writer:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: list[tuple[tuple[str, int, bytes], asyncio.Future[None]]] = []
        self._wake = threading.Condition()
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    async def keep(self, run: str, step: int, body: bytes) -> None:
        future = self._loop.create_future()
        with self._wake:
            self._queue.append(((run, step, body), future))
            self._wake.notify()
        await future

    def close(self) -> None:
        with self._wake:
            self._is_open = False
            self._wake.notify()
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue:
                    if not self._is_open:
                        return
                    self._wake.wait()
                batch, self._queue = self._queue, []
            with self._connection:
                self._connection.executemany(INSERT, [row for row, _ in batch])
            self._loop.call_soon_threadsafe(_settle, [future for _, future in batch])


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _open(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE step (run TEXT, number INTEGER, body BLOB, PRIMARY KEY (run, number))")
    return connection


@asynccontextmanager
async def client(url: str, at_once: int, keep: Keep) -> AsyncIterator[RunOnce]:
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
            body = {"model": "scripted", "messages": messages, "tools": TOOLS}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                reply: dict[str, Any] = (await response.json())["choices"][0]["message"]
                return reply

        async def agent(run: str, question: str) -> str:
            messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
            step = 0
            while True:
                reply = await ask(messages)
                await keep(run, step, json.dumps(reply).encode())
                step += 1
                if not reply.get("tool_calls"):
                    return str(reply["content"])
                messages.append(reply)
                for call in reply["tool_calls"]:
                    arguments = json.loads(call["function"]["arguments"])
                    if call["function"]["name"] != TOOL or arguments["article"] != "A-1034":
                        raise RuntimeError(f"an unexpected call: {call}")
                    result = {"role": "tool", "tool_call_id": call["id"], "content": FOUND}
                    await keep(run, step, json.dumps(result).encode())
                    step += 1
                    messages.append(result)

        async def team(run: str) -> str:
            planned = await agent(f"{run}-plan", f"{PLANNING} {GOAL}")
            *tasks, last = json.loads(planned)["tasks"]
            done = await asyncio.gather(*(agent(f"{run}-{task['id']}", task["instructions"]) for task in tasks))
            return await agent(f"{run}-{last['id']}", "\n".join([*done, ADDING]))

        async def run_once(run: str, kind: str) -> str:
            return await (team(run) if kind == "team" else agent(run, QUESTION))

        yield run_once
