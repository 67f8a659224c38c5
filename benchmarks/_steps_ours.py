"""collegium, through its public Python API: a plan of one task for an agent with one read-only tool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from _steps_child import FOUND, QUESTION, TOOL, TOOL_ABOUT, RunOnce

from collegium import Agent, Plan, Settings, Task, open_collegium, tool


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
    settings = Settings(data_dir=folder, worker={"concurrency": at_once})
    model = f"openai-compatible:scripted@{url}"
    async with open_collegium(settings, tools=[stock], agents=[AGENT], model=model) as collegium:

        async def run_once(run: str) -> str:
            submitted = await collegium.submit(QUESTION, plan=PLAN)
            report = await submitted.result()
            return report.answer.text if report.answer is not None else f"{report.status}: {report}"

        yield run_once
