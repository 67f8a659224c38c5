"""Forks: any event of a run is a place to go on from, and nothing that was done there is done twice."""

from __future__ import annotations

import asyncio

import pytest

from collegium.app import Collegium, Stores
from collegium.domain import body as b
from collegium.domain.errors import InvalidPlan, NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.report import RunReport
from collegium.runtime.history import past
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from tests.unit.runtime.bills import PAY_AND_TELL, call, paid_once_looked_up, paying


def paid(done: list[str]) -> list[str]:
    """The writes: what a fork reads again does no harm."""
    return [what for what in done if what.startswith("paid")]


def script() -> ScriptedModel:
    """Answers in whatever order and however often a run and its forks ask."""
    return ScriptedModel(
        [
            *paid_once_looked_up(call("look", what="bill")),
            Step(expect=("Tell Ann",), expect_last=("bill.txt",), reply="Ann knows.", times=None),
            Step(expect=("Tell Ann",), tool_calls=(call("list_files"),), times=None),
        ],
        ordered=False,
    )


async def done(app: Collegium, run_id: str) -> RunReport:
    return await asyncio.wait_for(app.result(run_id), 20)


async def recorded(app: Collegium) -> str:
    run = await app.submit("Pay the bill and tell Ann.", plan=PAY_AND_TELL)
    report = await done(app, run.id)
    assert report.status == "succeeded", report
    return run.id


async def events_of(app: Collegium, run: str) -> list[Event]:
    return [e async for e in app.events(run)]


async def whole_past(stores: Stores, run: str) -> list[Event]:
    return [e async for page in past(stores.journal, run) for e in page]


async def test_a_fork_at_every_event_ends_and_writes_nothing_twice() -> None:
    pay, look, made = paying()
    stores = memory_stores(FakeClock())
    async with team(script(), tools=[pay, look], stores=stores) as app:
        run = await recorded(app)
        events = await events_of(app, run)
        assert paid(made) == ["paid 5"]
        asked = unsettled = 0
        for event in events:
            try:
                fork = await app.fork(run, at=event.seq)
            except UsageError:
                unsettled += 1
                continue
            report = await done(app, fork.id)
            state = await fork.state()
            assert report.status in ("succeeded", "waiting"), (event.seq, report)
            assert paid(made) == ["paid 5"], event.seq
            if report.status == "waiting":
                (approval,) = state.open_approvals
                assert (approval.request.tool, approval.id[4:-2]) == ("pay", fork.id.removeprefix("run_"))
                asked += 1
            own = await events_of(app, fork.id)
            assert [e.seq for e in own] == list(range(1, len(own) + 1))
            shared = (await whole_past(stores, fork.id))[: -len(own)]
            assert shared == events[: event.seq]
        assert asked > 5
        assert 1 <= unsettled <= 3
        assert await events_of(app, run) == events


async def test_what_was_done_before_is_not_done_again_and_the_files_are_there() -> None:
    pay, look, _ = paying()
    async with team(script(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await recorded(app)
        events = await events_of(app, run)
        settled = next(e.seq for e in events if e.type == "task.settled" and e.task == "pay")
        fork = await app.fork(run, at=settled)
        report = await done(app, fork.id)
        assert (report.status, report.answer and report.answer.text.startswith("Ann knows")) == ("succeeded", True)
        assert {e.task for e in await events_of(app, fork.id)} == {None, "tell"}
        assert (await fork.state()).tasks["pay"].result == (await app.state(run)).tasks["pay"].result
        # The usage of what the parent did is the parent's.
        assert report.usage.model_calls == 2


async def test_writes_go_through_where_that_is_allowed_and_a_new_plan_is_followed() -> None:
    pay, look, made = paying()
    async with team(script(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await recorded(app)
        allowed = await app.fork(run, at=1, effects="allow")
        assert (await done(app, allowed.id)).status == "succeeded"
        assert paid(made) == ["paid 5", "paid 5"]

        last = (await events_of(app, run))[-1].seq
        longer = Plan(
            tasks=(*PAY_AND_TELL.tasks, Task(id="again", title="Again", capability="operate", instructions="Tell Ann."))
        )
        fork = await app.fork(run, at=last, plan=longer)
        report = await done(app, fork.id)
        assert report.status == "succeeded"
        assert {e.task for e in await events_of(app, fork.id)} == {None, "again"}
        with pytest.raises(InvalidPlan, match="'fly'"):
            await app.fork(run, at=1, plan=Plan(tasks=(Task(id="a", title="A", capability="fly"),)))


async def test_a_fork_of_a_fork_knows_all_its_parents() -> None:
    pay, look, made = paying()
    stores = memory_stores(FakeClock())
    async with team(script(), tools=[pay, look], stores=stores) as app:
        run = await recorded(app)
        events = await events_of(app, run)
        before = next(e.seq for e in events if e.type == "tool.finished") - 1
        one = await app.fork(run, at=before)
        assert (await done(app, one.id)).status == "waiting"
        own = await events_of(app, one.id)
        two = await app.fork(one.id, at=next(e.seq for e in own if e.type == "tool.finished"))
        assert (await done(app, two.id)).status == "waiting"
        assert paid(made) == ["paid 5"]
        whole = await whole_past(stores, two.id)
        assert [e.run for e in whole if e.type in ("run.submitted", "run.forked")] == [run, one.id, two.id]
        steps = [e.body.step for e in whole if isinstance(e.body, b.StepProposed) and e.task == "pay"]
        assert steps == [1, 2]


async def test_what_cannot_be_forked_says_why() -> None:
    pay, look, _ = paying()
    async with team(script(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await recorded(app)
        last = (await events_of(app, run))[-1].seq
        for at in (0, last + 1, -3):
            with pytest.raises(UsageError, match=f"1 to {last}"):
                await app.fork(run, at=at)
        with pytest.raises(NotFound):
            await app.fork("run_" + "0" * 34, at=1)
        with pytest.raises(NotFound):
            await app.fork(run, at=1, tenant="somebody")
        with pytest.raises(UsageError, match=r"\d+ is the last event at which something is left"):
            await app.fork(run, at=last)


async def test_the_hint_of_a_fork_that_would_end_at_once_leads_to_one_that_does_not() -> None:
    pay, look, _ = paying()
    async with team(script(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await recorded(app)
        with pytest.raises(UsageError) as caught:
            await app.fork(run, at=(await events_of(app, run))[-1].seq)
        hinted = int(str(caught.value).split("; ")[1].split()[0])
        fork = await app.fork(run, at=hinted)
        assert (await done(app, fork.id)).status in ("succeeded", "waiting")


async def test_a_write_that_the_far_side_deduplicates_keeps_its_key_in_a_fork() -> None:
    keys: list[str | None] = []

    @tool(effect="idempotent_write", capabilities=["operate"])
    async def file_ticket(text: str, context: ToolContext) -> str:
        """File a ticket.

        Args:
            text: What it says.
        """
        keys.append(context.key)
        return "filed"

    def ticket(text: str) -> Step:
        return Step(tool_calls=(call("file_ticket", text=text),), times=None, expect=(text,), expect_last=(text,))

    model = ScriptedModel(
        [ticket("one"), ticket("two"), Step(reply="Filed.", expect_last=("filed",), times=None)], ordered=False
    )
    plan = Plan(tasks=(Task(id="t", title="T", capability="operate", instructions="File one."),))
    other = Plan(tasks=(Task(id="t", title="T", capability="operate", instructions="File two."),))
    async with team(model, tools=[file_ticket], stores=memory_stores(FakeClock())) as app:
        run = await app.submit("File it.", plan=plan)
        assert (await done(app, run.id)).status == "succeeded"
        same = await app.fork(run.id, at=1)
        assert (await done(app, same.id)).status == "succeeded"
        another = await app.fork(run.id, at=1, plan=other)
        assert (await done(app, another.id)).status == "succeeded"
    first, again, new = keys
    assert first is not None
    assert first == again
    assert new not in (None, first)
