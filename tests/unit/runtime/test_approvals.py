"""People in the loop: what is asked, who may answer, and that an answer goes on once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import pytest

from collegium.adapters.clock import SystemClock
from collegium.app import Collegium, Run
from collegium.domain import body as b
from collegium.domain.asking import NOBODY
from collegium.domain.chat import ToolCall
from collegium.domain.errors import AlreadyDecided, CollegiumError, NotAllowed, NotFound, StoreCorrupt, UsageError
from collegium.domain.event import Event
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Journal
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from tests.unit.runtime.people import asked, ended, waiting
from tests.unit.runtime.plans import ONE

ASKING = ApprovalPolicy(tools=("send_*",))
B = TypeVar("B", bound=b.Body)


def mailer(sent: list[str], *, asks: bool = False, is_new: bool = False) -> FunctionTool:
    def send(to: str, context: ToolContext) -> str:
        sent.append(f"{to} {context.key}")
        return f"sent to {to}"

    def send_politely(to: str, context: ToolContext) -> str:
        sent.append(f"{to} politely {context.key}")
        return f"sent to {to}"

    made = tool(effect="write", name="send_mail", asks=asks)
    return made(send_politely if is_new else send)


def mail(to: str = "ada", id_: str = "c1") -> ToolCall:
    return ToolCall(id=id_, name="send_mail", arguments={"to": to})


def mailing(*, told: str = "sent to ada") -> ScriptedModel:
    return ScriptedModel([Step(tool_calls=(mail(),)), Step(expect_last=(told,), reply="Done.")])


async def submitted(app: Collegium, **options: object) -> Run:
    return await app.submit("Send the mail.", plan=ONE, tools=["send_mail"], **options)  # type: ignore[arg-type]


async def asking(app: Collegium, **options: object) -> Run:
    return await waiting(await submitted(app, **options))


async def told(app: Collegium, run: Run, kind: type[B]) -> list[B]:
    return [e.body async for e in app.events(run.id) if isinstance(e.body, kind)]


async def test_a_call_that_policy_names_is_made_once_somebody_has_approved_it() -> None:
    sent: list[str] = []
    async with team(mailing(), tools=[mailer(sent)], approvals=ASKING) as app:
        run = await asking(app)
        question = await asked(run)
        assert sent == []
        assert (question.task, question.request.arguments) == ("do", {"to": "ada"})
        assert "send_*" in question.request.question
        assert [q.approval.id for q in await app.approvals()] == [question.id]
        await app.answer(question.id, "approve", principal="bo", reason="fine")
        assert (await ended(run)).status == "succeeded"
        assert len(sent) == 1
        assert [i.approval for i in await told(app, run, b.ToolIntended)] == [question.id]
        assert [j.decision for j in await told(app, run, b.StepJudged)] == ["ask", "allow"]
        assert await app.approvals() == ()


async def test_a_tool_may_ask_by_itself_and_only_what_asks_is_asked_about() -> None:
    sent: list[str] = []
    async with team(mailing(), tools=[mailer(sent, asks=True)]) as app:
        assert "asks before every call" in (await asked(await asking(app))).request.question
    async with team(mailing(), tools=[mailer(sent)], approvals=ApprovalPolicy(tools=("pay_*",))) as app:
        run = await submitted(app)
        assert (await ended(run)).status == "succeeded"
        assert await told(app, run, b.StepJudged) == []


async def test_what_is_rejected_is_not_called_and_the_agent_is_told_why() -> None:
    sent: list[str] = []
    model = mailing(told="send_mail was not called, bo did not allow it: wrong person")
    async with team(model, tools=[mailer(sent)], approvals=ASKING) as app:
        run = await asking(app)
        await app.answer((await asked(run)).id, "reject", principal="bo", reason="wrong person")
        assert (await ended(run)).status == "succeeded"
        assert sent == []
        assert await told(app, run, b.ToolIntended) == []
        assert [j.decision for j in await told(app, run, b.StepJudged)] == ["ask", "deny"]


async def test_several_calls_of_a_step_are_asked_about_together_and_answered_one_by_one() -> None:
    sent: list[str] = []
    calls = (mail("ada", "c1"), mail("bo", "c2"))
    model = ScriptedModel([Step(tool_calls=calls), Step(expect=("sent to ada", "bo did not allow it"), reply="Done.")])
    async with team(model, tools=[mailer(sent)], approvals=ASKING) as app:
        run = await asking(app)
        first, second = (await run.state()).open_approvals
        await app.answer(first.id, "approve", principal="bo")
        assert (await run.state()).status == "waiting"
        assert sent == []
        await app.answer(second.id, "reject", principal="bo")
        assert (await ended(run)).plan.tasks[0].attempts == 2
        assert [s.split()[0] for s in sent] == ["ada"]


async def test_the_same_write_from_another_step_is_asked_about() -> None:
    sent: list[str] = []
    model = ScriptedModel(
        [Step(tool_calls=(mail(),)), Step(tool_calls=(mail(id_="c2"),)), Step(expect_last=("sent",), reply="Twice.")]
    )
    async with team(model, tools=[mailer(sent)]) as app:
        run = await asking(app)
        question = await asked(run)
        assert "already called with exactly these arguments, in step 1" in question.request.question
        assert len(sent) == 1
        await app.answer(question.id, "approve", principal="bo")
        assert (await ended(run)).status == "succeeded"
        assert len(sent) == 2
        assert len(set(sent)) == 2  # two keys


async def test_an_approval_survives_everything_and_goes_on_once_whoever_answers() -> None:
    stores, sent = memory_stores(SystemClock()), list[str]()
    async with team(mailing(), tools=[mailer(sent)], approvals=ASKING, stores=stores) as app:
        run = await asking(app)
        question = (await asked(run)).id
    empty = ScriptedModel([])
    async with (
        team(empty, stores=own_bus(stores), scope="none") as one,
        team(empty, stores=own_bus(stores), scope="none") as two,
    ):
        answers: Sequence[object] = await asyncio.gather(
            one.answer(question, "approve", principal="ada"),
            two.answer(question, "approve", principal="bo"),
            return_exceptions=True,
        )
    refused = [a for a in answers if isinstance(a, CollegiumError)]
    assert len(refused) == 1
    assert isinstance(refused[0], AlreadyDecided)
    heir_model = ScriptedModel([Step(expect_last=("sent to ada",), reply="Done.")])
    async with team(heir_model, tools=[mailer(sent)], approvals=ASKING, stores=own_bus(stores)) as heir:
        assert (await ended(await heir.resume(run.id))).status == "succeeded"
        assert len(await told(heir, run, b.ApprovalAnswered)) == 1
        ready = [x async for x in heir.events(run.id) if isinstance(x.body, b.TaskReady)]
        assert [x.attempt for x in ready] == [1, 2]
    assert len(sent) == 1


async def test_an_approval_is_bound_to_the_version_of_the_tool() -> None:
    stores, sent = memory_stores(SystemClock()), list[str]()
    async with team(mailing(), tools=[mailer(sent)], approvals=ASKING, stores=stores) as app:
        run = await asking(app)
        first = await asked(run)
    async with team(ScriptedModel([]), stores=own_bus(stores), scope="none") as other:
        await other.answer(first.id, "approve", principal="bo")
    newer = mailer(sent, is_new=True)
    async with team(ScriptedModel([]), tools=[newer], approvals=ASKING, stores=own_bus(stores)) as heir:
        await asyncio.wait_for((await heir.resume(run.id)).result(), 20)
        assert sent == []  # parked because of its pin, or asked again: never called on the old word


@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_an_answer_holds_where_nobody_would_ask_any_more(answer: str) -> None:
    stores, sent = memory_stores(SystemClock()), list[str]()
    async with team(mailing(), tools=[mailer(sent)], approvals=ASKING, stores=stores) as app:
        run = await asking(app)
        question = (await asked(run)).id
    async with team(ScriptedModel([]), stores=own_bus(stores), scope="none") as other:
        await other.answer(question, answer, principal="bo")
    async with team(ScriptedModel([Step(reply="Done.")]), tools=[mailer(sent)], stores=own_bus(stores)) as heir:
        assert (await ended(await heir.resume(run.id))).status == "succeeded"
        assert [i.approval for i in await told(heir, run, b.ToolIntended)] == [question] * (answer == "approve")
    assert len(sent) == (answer == "approve")


async def test_a_tool_that_is_no_longer_granted_is_not_called_whoever_approved_it() -> None:
    stores, sent = memory_stores(SystemClock()), list[str]()
    async with team(mailing(), tools=[mailer(sent)], approvals=ASKING, stores=stores) as app:
        run = await asking(app)
        question = (await asked(run)).id
    async with team(ScriptedModel([]), stores=own_bus(stores), scope="none") as other:
        await other.answer(question, "approve", principal="bo")
    async with team(ScriptedModel([Step(reply="Done.")]), approvals=ASKING, stores=own_bus(stores)) as heir:
        await asyncio.wait_for((await heir.resume(run.id)).result(), 20)
        assert await told(heir, run, b.ToolIntended) == []


@pytest.mark.parametrize("default", ["approve", "reject"])
async def test_an_answer_that_does_not_come_is_given_by_default_and_comes_too_late_afterwards(default: str) -> None:
    sent: list[str] = []
    clock = FakeClock()
    policy = ApprovalPolicy(tools=("send_mail",), expires_s=3_600.0, default=default)  # type: ignore[arg-type]
    model = ScriptedModel([Step(tool_calls=(mail(),)), Step(reply="Done.")])
    async with team(model, tools=[mailer(sent)], approvals=policy, clock=clock, stores=memory_stores(clock)) as app:
        run = await submitted(app)
        await until_asked(run, clock)
        question = await asked(run)
        await clock.advance(3_599)
        assert (await run.state()).status == "waiting"
        await clock.advance(1)
        with pytest.raises(AlreadyDecided, match=f"over at 2026-01-01T01:.*{default!r} was applied"):
            await app.answer(question.id, "reject" if default == "approve" else "approve", principal="bo")
        await until_finished(run, clock)
        (answer,) = await told(app, run, b.ApprovalAnswered)
        assert (answer.answer, answer.principal, answer.is_default) == (default, NOBODY, True)
        assert len(sent) == (default == "approve")


async def test_who_answers_too_late_learns_that_the_default_holds_though_nobody_had_applied_it() -> None:
    clock = FakeClock()
    stores = memory_stores(clock)
    policy = ApprovalPolicy(tools=("send_mail",), expires_s=3_600.0)
    model = ScriptedModel([Step(tool_calls=(mail(),))])
    async with team(model, tools=[mailer([])], approvals=policy, clock=clock, stores=stores) as app:
        run = await submitted(app)
        await until_asked(run, clock)
        question = (await asked(run)).id
    await clock.advance(3_600)
    async with team(ScriptedModel([]), clock=clock, stores=stores, scope="none") as late:
        with pytest.raises(AlreadyDecided, match="'reject' was applied"):
            await late.answer(question, "approve", principal="bo")
        (answer,) = await told(late, run, b.ApprovalAnswered)
        assert (answer.answer, answer.is_default) == ("reject", True)


async def until_asked(run: Run, clock: FakeClock) -> None:
    async with asyncio.timeout(20):
        while not (await run.state()).open_approvals:
            await clock.advance(0.01)


async def until_finished(run: Run, clock: FakeClock) -> None:
    async with asyncio.timeout(20):
        while (await run.state()).finished is None:
            await clock.advance(0.2)


async def test_who_may_not_answer() -> None:
    sent: list[str] = []
    policy = ApprovalPolicy(tools=("send_mail",), is_four_eyes=True)
    async with team(mailing(), tools=[mailer(sent)], approvals=policy) as app:
        run = await asking(app, principal="ada")
        question = (await asked(run)).id
        with pytest.raises(NotAllowed, match="second pair of eyes: ada asked for the run"):
            await app.answer(question, "approve", principal="ada")
        await app.answer(question, "approve", principal="bo")
        assert (await ended(run)).status == "succeeded"
    async with team(mailing(), tools=[mailer(sent)], approvals=ApprovalPolicy(tools=("*",), assignee="cy")) as app:
        run = await asking(app)
        question = (await asked(run)).id
        with pytest.raises(NotAllowed, match="is for cy to answer, and you are bo"):
            await app.answer(question, "approve", principal="bo")
        await app.answer(question, "approve", principal="cy")
        assert (await ended(run)).status == "succeeded"


async def test_what_cannot_be_answered_says_why() -> None:
    async with team(mailing(told="was not called"), tools=[mailer([])], approvals=ASKING) as app:
        run = await asking(app)
        question = (await asked(run)).id
        for unknown in ("apr_1", question[:-1] + "7", "apr_" + "0" * 34 + "_1"):
            with pytest.raises(NotFound, match="there is no question"):
                await app.answer(unknown, "approve")
        with pytest.raises(NotFound, match="there is no question"):
            await app.answer(question, "approve", tenant="another")
        with pytest.raises(UsageError, match=r"'done' is no answer .* say approve or reject"):
            await app.answer(question, "done")
        with pytest.raises(UsageError, match="another plan goes only with the approval of a plan"):
            await app.answer(question, "approve", plan=ONE)
        with pytest.raises(UsageError, match=r"no call of run_[0-9a-f]+ has an unknown outcome"):
            await app.inbox.settle(run.id, "done", principal="bo", tenant="default")
        await app.answer(question, "reject", principal="bo", reason="no")
        with pytest.raises(AlreadyDecided, match=r"answered with 'reject' by bo at .* \(no\)"):
            await app.answer(question, "reject", principal="bo", reason="no")
        await ended(run)
        with pytest.raises(AlreadyDecided, match=r"has ended|answered with"):
            await app.answer(question, "approve", principal="cy")


async def test_a_cancelled_run_hears_no_answers() -> None:
    async with team(mailing(), tools=[mailer([])], approvals=ASKING) as app:
        run = await asking(app)
        question = (await asked(run)).id
        await run.cancel()
        assert (await ended(run)).status == "cancelled"
        assert await app.approvals() == ()
        with pytest.raises(AlreadyDecided, match=r"has ended \(cancelled\): nobody waits"):
            await app.answer(question, "approve")


async def test_a_waiting_run_holds_nothing_in_the_process() -> None:
    async with team(ScriptedModel([Step(tool_calls=(mail(),), times=6)]), tools=[mailer([])], approvals=ASKING) as app:
        first = await asking(app)
        assert (await first.state()).tasks["do"].worker is None
        before = len(asyncio.all_tasks())
        for _ in range(5):
            await asking(app)
        assert len(asyncio.all_tasks()) <= before
        assert len(await app.approvals()) == 6


class OneUnreadable:
    """A journal in which one run was written by a newer version."""

    def __init__(self, inner: Journal, run: str) -> None:
        self._inner, self._run = inner, run

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        if run == self._run:
            raise StoreCorrupt("written by a newer collegium")
        return await self._inner.read(run, after, limit)


async def test_a_run_that_cannot_be_read_hides_no_other_question() -> None:
    stores = memory_stores(SystemClock())
    model = ScriptedModel([Step(tool_calls=(mail(),), times=2)])
    async with team(model, tools=[mailer([])], approvals=ASKING, stores=stores) as app:
        newer, other = await asking(app), await asking(app)
    torn = replace(stores, journal=OneUnreadable(stores.journal, newer.id))  # type: ignore[arg-type]
    async with team(ScriptedModel([]), stores=torn, scope="none") as reader:
        assert [q.run for q in await reader.approvals()] == [other.id]
