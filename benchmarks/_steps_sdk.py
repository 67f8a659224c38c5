"""The limit of every run through a vendor's SDK: OpenAI's own client, asked directly, nothing kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from _steps_bare import TOOLS
from _steps_child import ADDING, FOUND, GOAL, PLANNING, QUESTION, TOOL, RunOnce
from openai import AsyncOpenAI, DefaultAioHttpClient

FLAT_TOOLS: Any = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]


@asynccontextmanager
async def sdk(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The Responses API on the SDK's quickest transport, as collegium uses it too."""
    client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAioHttpClient())

    async def agent(question: str) -> str:
        given: Any = [{"role": "user", "content": question}]
        while True:
            reply = await client.responses.create(model="scripted", input=given, tools=FLAT_TOOLS, store=False)
            calls = [item for item in reply.output if item.type == "function_call"]
            if not calls:
                return reply.output_text
            for call in calls:
                if call.name != TOOL or json.loads(call.arguments)["article"] != "A-1034":
                    raise RuntimeError(f"an unexpected call: {call}")
                given.append(call.model_dump())
                given.append({"type": "function_call_output", "call_id": call.call_id, "output": FOUND})

    async def team() -> str:
        *tasks, _ = json.loads(await agent(f"{PLANNING} {GOAL}"))["tasks"]
        done = await asyncio.gather(*(agent(task["instructions"]) for task in tasks))
        return await agent("\n".join([*done, ADDING]))

    async def run_once(run: str, kind: str) -> str:
        return await (team() if kind == "team" else agent(QUESTION))

    async with client:
        yield run_once
