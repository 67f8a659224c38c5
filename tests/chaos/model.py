"""The model of the trials: a process of its own behind real HTTP, whose every reply follows from the conversation.

It writes down each request it gets, so that a step that was asked for again is found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.usage import Usage
from collegium.testing.loopback import HttpAnswer
from collegium.testing.model_server import ModelServer, reply_answer
from tests.chaos import goals


class ChaosModel:
    """Answers by the mark in the task's text; ``slow_s`` are the shortest and the longest time it takes."""

    def __init__(self, log: Path, slow_s: tuple[float, float]) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._slow_s = slow_s

    def respond(self, request: ModelRequest, stream: bool) -> HttpAnswer:
        """The reply to one request."""
        text = "\n".join(m.text for m in request.messages if m.role == "user")
        step = sum(1 for m in request.messages if m.role == "assistant") + 1
        mark = goals.find_mark(text)
        if mark is None:
            planned = goals.PLANNED.search(text)
            assert planned is not None, text
            self._note(planned["tag"], "plan", step)
            reply = ModelReply(text=_plan(planned["tag"], planned["kind"]), finish="stop", usage=_usage())
        else:
            self._note(mark.tag, mark.task, step)
            reply = _reply(mark, step)
        return reply_answer(reply, stream=stream, delay_s=random.uniform(*self._slow_s))

    def _note(self, tag: str, task: str, step: int) -> None:
        line = json.dumps({"tag": tag, "task": task, "step": step, "at": time.time()})
        os.write(self._log, line.encode() + b"\n")


def _reply(mark: goals.Mark, step: int) -> ModelReply:
    if step > len(mark.steps):
        return ModelReply(text=f"Done {mark.tag}.", finish="stop", usage=_usage())
    calls = tuple(
        ToolCall(id=f"call_{step}_{n}", name=name, arguments={"label": goals.label(mark.tag, mark.task, step, n)})
        for n, name in enumerate(mark.steps[step - 1])
    )
    return ModelReply(text="", tool_calls=calls, finish="tool_calls", usage=_usage())


def _plan(tag: str, kind: str) -> str:
    fields = ("id", "title", "capability", "instructions", "depends_on")
    return json.dumps({"tasks": [{f: getattr(t, f) for f in fields} for t in goals.tasks(tag, kind)]})


def _usage() -> Usage:
    return Usage(input_tokens=50, output_tokens=10)


def serve(log: Path, slow_s: tuple[float, float], told: Connection) -> None:
    """Serves until its process is ended; tells its URL first."""

    async def main() -> None:
        server = ModelServer(respond=ChaosModel(log, slow_s).respond)
        await server.start()
        told.send(server.url)
        await server.serve_forever()

    asyncio.run(main())


def requests(log: Path) -> list[dict[str, Any]]:
    """Every request that came in, in order."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
