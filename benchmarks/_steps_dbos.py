"""DBOS: an agent run is a workflow whose model calls and tool calls are steps, a team one with children."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from _steps_bare import TOOLS
from _steps_child import ADDING, FOUND, GOAL, PLANNING, QUESTION, TOOL, RunOnce, database
from dbos import DBOS, DBOSConfig, SetWorkflowID


class Server:
    """The scripted model server of the present pass; a step finds it here because its arguments must be plain data."""

    session: aiohttp.ClientSession
    url: str


@DBOS.step()
async def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"model": "scripted", "messages": messages, "tools": TOOLS}
    async with Server.session.post(f"{Server.url}/chat/completions", json=body) as response:
        reply: dict[str, Any] = (await response.json())["choices"][0]["message"]
        return reply


@DBOS.step()
async def look_up(name: str, arguments: dict[str, Any]) -> str:
    if name != TOOL or arguments["article"] != "A-1034":
        raise RuntimeError(f"an unexpected call: {name} {arguments}")
    return FOUND


@DBOS.workflow()
async def agent(question: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while True:
        reply = await ask(messages)
        if not reply.get("tool_calls"):
            return str(reply["content"])
        messages.append(reply)
        for call in reply["tool_calls"]:
            result = await look_up(call["function"]["name"], json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


@DBOS.workflow()
async def team(goal: str) -> str:
    planned = await agent(f"{PLANNING} {goal}")
    *tasks, _ = json.loads(planned)["tasks"]
    handles = [await DBOS.start_workflow_async(agent, task["instructions"]) for task in tasks]
    done = await asyncio.gather(*(handle.get_result() for handle in handles))
    return await agent("\n".join([*done, ADDING]))


@asynccontextmanager
async def dbos(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """As it ships: a rollback journal with ``synchronous=FULL``, each step a transaction of its own."""
    async with _launched(url, f"sqlite:///{folder / 'dbos.db'}", at_once) as run_once:
        yield run_once


@asynccontextmanager
async def dbos_wal(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The same on a file that was put in WAL mode, which costs one sync for a commit instead of several."""
    path = folder / "dbos.db"
    connection = sqlite3.connect(path)  # the mode is a property of the file
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    async with _launched(url, f"sqlite:///{path}", at_once) as run_once:
        yield run_once


@asynccontextmanager
async def dbos_postgres(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """On PostgreSQL, as its documentation advises for production."""
    async with _launched(url, database(), at_once) as run_once:
        yield run_once


@asynccontextmanager
async def _launched(url: str, database: str, at_once: int) -> AsyncIterator[RunOnce]:
    config: DBOSConfig = {"name": "steps", "system_database_url": database, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
            Server.session, Server.url = session, url

            async def run_once(run: str, kind: str) -> str:
                with SetWorkflowID(run):
                    return await (team(GOAL) if kind == "team" else agent(QUESTION))

            yield run_once
    finally:
        DBOS.destroy()
