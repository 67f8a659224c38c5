"""People in the loop: what is asked, who may answer, and that an answer goes on once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from collegium.app import Collegium, Run
from collegium.domain import body as b
from collegium.domain.chat import ToolCall
from collegium.domain.errors import AlreadyDecided, InvalidPlan, NotAllowed, NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.report import RunReport
from collegium.domain.run import Approval
from collegium.oversight.approvals import ApprovalPolicy
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool

ONE = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Do it."),))
ASKING = ApprovalPolicy(tools=("send_*",))


def mailer(sent: list[str], *, asks: bool = False, reader: str = "to") -> FunctionTool:
    @tool(effect="write", name="send_mail", asks=asks)
    def send_mail(to: str, context: ToolContext) -> str:
        """Sends a mail."""
        sent.append(f"{to} {context.key}")
        return f"sent to {to}"

    return send_mail


def mail(to: str = "ada", id_: str = "c1") -> ToolCall:
    return ToolCall(id=id_, name="send_mail", arguments={"to": to})


async def waiting(app: Collegium, **options: object) -> tuple[Run, RunReport]:
    run = await app.submit("Send the mail.", plan=ONE, tools=["send_mail"], **options)  # type: ignore[arg-type]
    report = await asyncio.wait_for(run.result(), 20)
    assert report.status == "waiting", report
    return run, report


async def ended(run: Run) -> RunReport:
    report = await asyncio.wait_for(run.result(), 20)
    assert report.status != "waiting", report
    return report


async def asked(run: Run) -> Approval:
    open_ = (await run.state()).open_approvals
    assert len(open_) == 1, open_
    return open_[0]


async def events_of(app: Collegium, run: Run) -> list[Event]:
    return [e async for e in app.events(run.id)]


def bodies(events: Sequence[Event], kind: type[b.Body]) -> list[b.Body]:
    return [e.body for e in events if isinstance(e.body, kind)]


async def test_a_call_that_policy_names_is_made_once_somebody_has_approved_it() -> None:
    sent: list[str] = []
    model = ScriptedModel([Step(tool_calls=(mail(),)), Step(expect_last=("sent to ada",), reply="Sent.")])
    async with team(model, tools=[mailer(sent)], approvals=ASKING) as app:
        run, _ = await waiting(app)
        question = await asked(run)
        assert sent == []
        assert question.task == "do"
        assert question.request.arguments == {"to": "ada"}
        assert "send_*" in question.request.question
        assert [q.approval.id for q in await app.approvals()] == [question.id]
        await app.answer(question.id, "approve", principal="bo", reason="fine")
        assert (await ended(run)).status == "succeeded"
        assert len(sent) == 1
        events = await events_of(app, run)
        intended = [e.body for e in events if isinstance(e.body, b.ToolIntended)]
        assert [i.approval for i in intended] == [question.id]
        assert [j.decision for j in (e.body for e in events) if isinstance(j, b.StepJudged)] == ["ask", "allow"]
        assert await app.approvals() == ()
