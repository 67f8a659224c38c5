"""Replies of models that break off in the middle, all the way up to the run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from collegium import load_settings, open_collegium
from collegium.domain import body as b
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall, upper_bound_tokens
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.report import RunReport
from collegium.domain.usage import Limits, Usage
from collegium.testing.loopback import HttpAnswer
from collegium.testing.model_server import ModelServer, reply_answer
from collegium.tools.definition import tool

pytestmark = pytest.mark.usefixtures("short_waits")

PLAN = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Look, then answer."),))
USAGE = Usage(input_tokens=10, output_tokens=5, model_calls=1)
CALL = ModelReply(tool_calls=(ToolCall(id="c", name="look", arguments={}),), finish="tool_calls", usage=USAGE)
DONE = ModelReply(text="Done.", usage=USAGE)


@tool(effect="read", capabilities=["operate"])
async def look() -> str:
    """Look."""
    return "seen"


class Breaking:
    """Answers every step, but breaks the reply to request number ``cut`` off in the middle of a word."""

    def __init__(self, *cut: int) -> None:
        self._cut = cut
        self.requests: list[ModelRequest] = []

    def __call__(self, request: ModelRequest, stream: bool) -> HttpAnswer:
        self.requests.append(request)
        reply = DONE if request.messages[-1].role == "tool" else CALL
        answer = reply_answer(reply, stream=stream)
        if len(self.requests) not in self._cut:
            return answer
        assert isinstance(answer.body, bytes)
        return msgspec.structs.replace(answer, body=answer.body[: len(answer.body) // 2], is_cut=True)


async def run(breaking: Breaking, folder: Path, *, attempts: int, limits: Limits) -> tuple[RunReport, list[Event]]:
    settings = load_settings(None, {}, {"data_dir": folder, "models.max_attempts": attempts})
    async with ModelServer(respond=breaking) as server:
        model = f"openai-compatible:scripted@{server.url}/v1"
        async with open_collegium(settings, tools=[look], model=model) as app:
            submitted = await app.submit("x", plan=PLAN, limits=limits)
            report = await asyncio.wait_for(submitted.result(), 30)
            return report, [e async for e in app.events(submitted.id)]


@pytest.mark.parametrize("cut", [1, 2])
async def test_a_reply_that_breaks_off_is_asked_for_again_and_leaves_nothing_half(tmp_path: Path, cut: int) -> None:
    breaking = Breaking(cut)
    report, events = await run(breaking, tmp_path, attempts=1, limits=Limits(tokens=40_000))
    assert report.status == "succeeded"
    assert [len(r.messages) for r in breaking.requests] == ([2, 2, 4] if cut == 1 else [2, 4, 4])
    assert breaking.requests[cut - 1] == breaking.requests[cut], "asked again for exactly the same"
    steps = [e.body for e in events if isinstance(e.body, b.StepProposed)]
    assert [(s.step, s.reply.text, len(s.reply.tool_calls)) for s in steps] == [(1, "", 1), (2, "Done.", 0)]
    assert len([e for e in events if isinstance(e.body, b.ToolFinished)]) == 1
    parked = [e.body for e in events if isinstance(e.body, b.TaskParked)]
    assert [(p.reason, p.error) for p in parked] == [("retry", "model_unavailable")]
    # Nobody knows what the broken call took: under a limit it is charged in full.
    broken = breaking.requests[cut - 1]
    known = 0 if cut == 1 else USAGE.tokens
    assert parked[0].usage.tokens - known >= upper_bound_tokens(broken)
    assert report.usage.input_tokens + report.usage.output_tokens == parked[0].usage.tokens + (30 - known)


async def test_a_client_that_asks_again_itself_hides_it_from_the_run(tmp_path: Path) -> None:
    breaking = Breaking(1, 3)
    report, events = await run(breaking, tmp_path, attempts=3, limits=Limits())
    assert report.status == "succeeded"
    assert len(breaking.requests) == 4
    assert not [e for e in events if isinstance(e.body, b.TaskParked)]


async def test_replies_that_always_break_off_end_the_run_with_their_reason(tmp_path: Path) -> None:
    breaking = Breaking(*range(1, 50))
    report, events = await run(breaking, tmp_path, attempts=1, limits=Limits())
    assert (report.status, report.plan.tasks[0].status) == ("failed", "failed")
    assert "broke the connection" in str(report.missing) + str(report.reason)
    assert not [e for e in events if isinstance(e.body, b.StepProposed)]
