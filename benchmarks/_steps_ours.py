"""collegium, through its public Python API: a given plan of one task, or a goal that its team plans."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

from _steps_child import FOUND, GOAL, QUESTION, TOOL, TOOL_ABOUT, RunOnce, database

from collegium import Agent, Plan, Task, load_settings, open_collegium, tool


@tool(effect="read", name=TOOL)
async def stock(article: str) -> str:
    """Look up how many pieces of an article are in stock."""
    return FOUND


AGENT = Agent(
    name="clerk",
    kind="operator",
    description=TOOL_ABOUT,
    capabilities=("stock",),
    prompt="Answer with the tools you have.",
    tools=(TOOL,),
    max_concurrent=1_000,
)
PLAN = Plan(tasks=(Task(id="stock", title="Look it up", capability="stock", instructions=QUESTION),))


@asynccontextmanager
async def ours(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """Each run is submitted, worked on by this process, and read back when it has ended."""
    async with _opened(f"openai-compatible:scripted@{url}", folder, at_once) as run_once:
        yield run_once


@asynccontextmanager
async def ours_sealed(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The same with what is stored in envelopes (AES-256-GCM)."""
    async with _opened(f"openai-compatible:scripted@{url}", folder, at_once, _key(folder)) as run_once:
        yield run_once


@asynccontextmanager
async def ours_sqlcipher(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The same in files that are encrypted as a whole besides."""
    wanted = {**_key(folder), "encryption.sqlcipher": True}
    async with _opened(f"openai-compatible:scripted@{url}", folder, at_once, wanted) as run_once:
        yield run_once


def _key(folder: Path) -> dict[str, object]:
    path = folder / "kek"
    path.write_bytes(os.urandom(32))
    return {"encryption.kek_file": path}


@asynccontextmanager
async def ours_sdk(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The same through the vendor's SDK, as ``[openai]`` brings it; the server on loopback takes any key."""
    os.environ.update(OPENAI_API_KEY="none", OPENAI_BASE_URL=url)
    async with _opened("openai:scripted", folder, at_once) as run_once:
        yield run_once


@asynccontextmanager
async def _opened(
    model: str, folder: Path, at_once: int, more: Mapping[str, object] = MappingProxyType({})
) -> AsyncIterator[RunOnce]:
    place = {"store": database()} if database() else {}
    wanted = {"data_dir": folder, "worker.concurrency": max(64, at_once), **place, **more}
    settings = load_settings(None, {}, wanted)
    async with open_collegium(settings, tools=[stock], agents=[AGENT], model=model) as collegium:

        async def run_once(run: str, kind: str) -> str:
            if kind == "team":
                submitted = await collegium.submit(GOAL)
            else:
                submitted = await collegium.submit(QUESTION, plan=PLAN)
            report = await submitted.result()
            return str(report.answer.text if report.answer is not None else report)

        yield run_once
