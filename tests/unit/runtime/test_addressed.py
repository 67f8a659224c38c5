"""Answers and plans are asked about by the same policy as calls: until when, by whom, and what holds afterwards."""

from __future__ import annotations

import asyncio

import pytest

from collegium.app import Run
from collegium.domain.document import GivenFile
from collegium.domain.errors import NotAllowed
from collegium.domain.plan import Plan, Task
from collegium.oversight.approvals import ApprovalPolicy
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.people import asked

NOTES = [GivenFile(path="a.md", data=b"# A\n\nThe order service is owned by the team Harbour.\n")]
WRITE = Plan(
    tasks=(
        Task(id="look", title="Look", capability="research", instructions="Who owns the order service?"),
        Task(id="say", title="Say", capability="write", instructions="Who owns it?", depends_on=("look",)),
    )
)
FALSE = "The order service was sold to Quay in 1851 [1]."


async def until_finished(run: Run, clock: FakeClock) -> None:
    async with asyncio.timeout(20):
        while (await run.state()).finished is None:
            await clock.advance(0.2)


async def test_an_answer_is_asked_about_by_the_same_policy_as_calls() -> None:
    clock = FakeClock()
    model = ScriptedModel([Step(reply="Harbour."), Step(reply=FALSE), Step(reply=FALSE)])
    policy = ApprovalPolicy(is_escalating=True, is_four_eyes=True, assignee="cy", expires_s=3_600.0, default="approve")
    async with team(model, approvals=policy, clock=clock, stores=memory_stores(clock)) as app:
        run = await app.submit("Who owns it?", plan=WRITE, files=NOTES, principal="ada")
        async with asyncio.timeout(20):
            while not (await run.state()).open_approvals:
                await clock.advance(0.01)
        question = await asked(run)
        assert (question.request.kind, question.request.assignee) == ("verdict", "cy")
        for nobody in ("ada", "bo"):
            with pytest.raises(NotAllowed):
                await app.answer(question.id, "approve", principal=nobody)
        await clock.advance(3_600)
        await until_finished(run, clock)
        answer = (await run.state()).approvals[question.id].answer
        assert answer is not None
        assert (answer.answer, answer.is_default) == ("approve", True)
