"""Answers and plans are asked about by the same policy as calls: until when, by whom, and what holds afterwards."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from collegium.app import Run
from collegium.domain.asking import NOBODY
from collegium.domain.document import GivenFile
from collegium.domain.errors import AlreadyDecided, NotAllowed
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Allotment
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.accounts import AccountCaps, PeriodCaps
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.people import asked, ended, waiting
from tests.unit.runtime.plans import ONE

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


@pytest.mark.parametrize(("default", "status"), [("approve", "succeeded"), ("reject", "failed")])
async def test_a_plan_that_nobody_answers_on_is_followed_or_not_by_default(default: str, status: str) -> None:
    clock = FakeClock()
    policy = ApprovalPolicy(expires_s=3_600.0, default=default)  # type: ignore[arg-type]
    model = ScriptedModel([Step(reply="Done.")])
    async with team(model, approvals=policy, clock=clock, stores=memory_stores(clock)) as app:
        run = await app.submit("x", plan=ONE, is_plan_reviewed=True)
        question = await asked(run)
        assert question.request.expires_at == question.requested_at + timedelta(hours=1)
        await clock.advance(3_599)
        assert (await run.state()).status == "waiting"
        await clock.advance(1)
        with pytest.raises(AlreadyDecided, match=f"{default!r} was applied"):
            await app.answer(question.id, "approve", principal="bo")
        await until_finished(run, clock)
        state = await run.state()
        answer = state.approvals[question.id].answer
        assert answer is not None
        assert (answer.principal, answer.is_default, state.status) == (NOBODY, True, status)


async def test_who_may_not_answer_on_a_plan() -> None:
    model = ScriptedModel([Step(reply="Done.", times=2)])
    async with team(model, approvals=ApprovalPolicy(is_four_eyes=True)) as app:
        run = await waiting(await app.submit("x", plan=ONE, is_plan_reviewed=True, principal="ada"))
        question = (await asked(run)).id
        with pytest.raises(NotAllowed, match="second pair of eyes: ada asked for the run"):
            await app.answer(question, "approve", principal="ada")
        await app.answer(question, "approve", principal="bo")
        assert (await ended(run)).status == "succeeded"
    async with team(model, approvals=ApprovalPolicy(assignee="cy")) as app:
        run = await waiting(await app.submit("x", plan=ONE, is_plan_reviewed=True))
        question = (await asked(run)).id
        with pytest.raises(NotAllowed, match="is for cy to answer, and you are bo"):
            await app.answer(question, "approve", principal="bo")
        await app.answer(question, "approve", principal="cy")
        assert (await ended(run)).status == "succeeded"


async def test_so_is_a_plan_of_a_run_that_draws_on_accounts() -> None:
    """What such a run does first is not decided together with its submission."""
    caps = AccountCaps(tenant=PeriodCaps(day=Allotment(tokens=100_000)))
    async with team(ScriptedModel([]), approvals=ApprovalPolicy(assignee="cy"), caps=caps) as app:
        run = await waiting(await app.submit("x", plan=ONE, is_plan_reviewed=True))
        assert (await asked(run)).request.assignee == "cy"
