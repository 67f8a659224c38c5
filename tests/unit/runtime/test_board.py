"""``share`` and ``inbox``: what one agent found reaches the others once, from the journal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from collegium.adapters.clock import SystemClock
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.errors import StoreUnavailable, TopicFull
from collegium.domain.message import Message, board_topic, inbox_topic
from collegium.testing.harness import memory_stores, own_bus, team
from tests.unit.runtime.colleagues import (
    TEAM,
    Parts,
    Roles,
    ask,
    done,
    events_of,
    inbox,
    named,
    plan,
    results,
    share,
    task,
)

CLERK = Agent(
    name="clerk", kind="operator", description="Files.", capabilities=("file",), prompt="File.", tools=("inbox",)
)
TWO = plan(task("a"), task("b", "a"))


def ids(finished: b.ToolFinished) -> list[str]:
    assert finished.result.data is not None
    return [m["id"] for m in finished.result.data["messages"]]


async def test_what_is_shared_is_in_the_journal_and_then_on_the_bus() -> None:
    stores = memory_stores(SystemClock())
    model = Roles({"Do a.": [(share("Ann owns it."),), "Told."], "Do b.": ["Done."]})
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=TWO, tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
        (copy,) = await stores.bus.read(board_topic(run.id))
    (sent,) = named(events, "message.sent")
    (finished,) = results(events, "share")
    assert isinstance(sent.body, b.MessageSent)
    assert (sent.task, sent.body.agent, sent.body.text) == ("a", "operator", "Ann owns it.")
    assert (sent.body.step, sent.body.call, sent.body.topic) == (1, 0, board_topic(run.id))
    assert events[sent.seq].body == finished  # one append
    assert (copy.id, copy.tenant, copy.body["text"]) == (sent.body.message, "default", "Ann owns it.")


async def test_each_message_comes_to_each_task_once_and_none_to_its_sender() -> None:
    parts: Parts = {
        "Do a.": [(share("One."), share("Two.")), (inbox(),), "Told."],
        "Do b.": [(inbox(),), (share("Three."), inbox()), "Done."],
        "Do c.": [(inbox(),), (inbox(),), "Done."],
    }
    model = Roles(parts)
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a"), task("b", "a"), task("c", "b")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
    assert model.told("Do a.", 2) == ["No new messages."]
    first, (_, second) = model.told("Do b.", 1)[0], model.told("Do b.", 2)
    assert first.index("One.") < first.index("Two.")
    assert "not instructions" in first
    assert "operator, at task 'a'" in first
    assert second == "No new messages."
    assert [text in model.told("Do c.", 1)[0] for text in ("One.", "Two.", "Three.")] == [True, True, True]
    assert model.told("Do c.", 2) == ["No new messages."]


async def test_looks_side_by_side_are_given_different_messages() -> None:
    many = tuple(share(f"Number {n}. " + "x" * 7_000) for n in range(5))
    model = Roles({"Do a.": [many, "Told."], "Do b.": [(inbox("1"), inbox("2"), inbox("3")), (inbox(),), "Done."]})
    async with team(model) as app:
        run = await app.submit("x", plan=TWO, tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
    seen = [i for finished in results(events, "inbox") for i in ids(finished)]
    assert len(seen) == len(set(seen)) == 5
    assert all(len(text) < 20_000 for text in model.told("Do b.", 1))
    assert "more: call inbox again" in model.told("Do b.", 1)[0]
    assert model.told("Do b.", 2) == ["No new messages."]


async def test_a_message_to_one_agent_reaches_it_alone() -> None:
    parts: Parts = {
        "Do a.": [(share("For the files.", to="clerk"), share("x", to="nobody")), "Told."],
        "Do b.": [(inbox(),), "Done."],
        "Do c.": [(inbox(),), "Filed."],
    }
    model, stores = Roles(parts), memory_stores(SystemClock())
    tasks = plan(task("a"), task("b", "a"), task("c", "a", capability="file"))
    async with team(model, agents=[CLERK], stores=stores) as app:
        run = await app.submit("x", plan=tasks, tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        other = await app.submit("y", plan=plan(task("c", capability="file")), tools=TEAM, tenant="elsewhere")
        report = await asyncio.wait_for(app.result(other.id, tenant="elsewhere"), 20)
        assert report.status == "succeeded"
        events = [e async for e in app.events(other.id, tenant="elsewhere")]
        (copy,) = await stores.bus.read(inbox_topic("clerk"))
        assert (copy.tenant, copy.body["run"]) == ("default", run.id)
    told, refused = model.told("Do a.", 1)
    assert told == "Shared with clerk."
    assert "there is no agent 'nobody'" in refused
    assert "clerk" in refused
    assert model.told("Do b.", 1) == ["No new messages."]
    # The other run's clerk, of another tenant, was asked last: it has nothing.
    assert ids(results(events, "inbox")[0]) == []


async def test_the_right_clerk_reads_it() -> None:
    parts: Parts = {"Do a.": [(share("For the files.", to="clerk"),), "Told."], "Do c.": [(inbox(),), "Filed."]}
    model = Roles(parts)
    async with team(model, agents=[CLERK]) as app:
        run = await app.submit("x", plan=plan(task("a"), task("c", "a", capability="file")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
    assert "to your agent alone" in model.told("Do c.", 1)[0]
    assert "For the files." in model.told("Do c.", 1)[0]


async def test_a_colleague_that_is_asked_reads_the_board_too() -> None:
    parts: Parts = {"Do a.": [(share("Ann."), ask("Who?")), "Done."], "Who?": [(inbox(),), "It is said to be Ann."]}
    model = Roles(parts)
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
    assert "Ann." in model.told("Who?", 1)[0]


async def test_an_empty_or_endless_finding_is_refused() -> None:
    model = Roles({"Do a.": [(share(" "), share("x" * 8_001)), "Told."]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        assert named(await events_of(app, run.id), "message.sent") == []
    empty, endless = model.told("Do a.", 1)
    assert "empty" in empty
    assert "8000" in endless


class FullBus:
    """A bus that takes work and no copies."""

    def __init__(self, inner: Any, error: Exception) -> None:
        self._inner = inner
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(self, *messages: Message, **options: Any) -> int:
        if any(not m.topic.startswith("tasks.") for m in messages):
            raise self._error
        published: int = await self._inner.publish(*messages, **options)
        return published


async def test_the_bus_is_never_what_a_message_depends_on() -> None:
    for error in (StoreUnavailable("the bus is away"), TopicFull("the topic is full")):
        stores = memory_stores(SystemClock())
        stores = replace(stores, bus=FullBus(stores.bus, error))
        model = Roles({"Do a.": [(share("Ann owns it."),), "Told."], "Do b.": [(inbox(),), "Done."]})
        async with team(model, stores=stores) as app:
            run = await app.submit("x", plan=TWO, tools=TEAM)
            assert (await done(app, run.id)).status == "succeeded"
        assert "Ann owns it." in model.told("Do b.", 1)[0]


async def test_an_attempt_that_takes_over_reads_on_behind_what_was_read() -> None:
    stores = memory_stores(SystemClock())
    parts: Parts = {
        "Do a.": [(share("One."),), "Told."],
        "Do b.": [(inbox(),), (inbox(),), "Done."],
    }
    model = Roles(parts)
    reached, held = asyncio.Event(), asyncio.Event()
    complete = model.complete

    async def slow(request: Any) -> Any:
        if any(m.role == "tool" and "One." in m.text for m in request.messages) and not reached.is_set():
            reached.set()
            await held.wait()
        return await complete(request)

    model.complete = slow  # type: ignore[method-assign]
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=TWO, tools=TEAM)
        async with asyncio.timeout(10):
            await reached.wait()
    async with team(model, stores=own_bus(stores)) as heir:
        resumed = await heir.resume(run.id)
        assert (await done(heir, resumed.id)).status == "succeeded"
        events = await events_of(heir, run.id)
    assert [len(ids(f)) for f in results(events, "inbox")] == [1, 0]
    assert [e.attempt for e in events if e.type == "tool.finished" and e.task == "b"] == [1, 2]


async def test_a_fork_of_every_event_has_each_message_once() -> None:
    model = Roles({"Do a.": [(share("One."),), "Told."], "Do b.": [(inbox(),), "Done."]})
    stores = memory_stores(SystemClock())
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=TWO, tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
        (sent,) = (e.seq for e in named(events, "message.sent"))
        (read,) = (e.seq for e in events if isinstance(e.body, b.ToolFinished) and e.body.tool == "inbox")
        for at in range(1, read):
            fork = await app.fork(run.id, at=at)
            assert (await done(app, fork.id)).status == "succeeded"
            own = await events_of(app, fork.id)
            assert [len(ids(f)) for f in results(own, "inbox")] == [1], at
            assert len(named(own, "message.sent")) == (at < sent), at


async def test_by_hand_there_is_no_board() -> None:
    from collegium.adapters.memory.workspace import MemoryWorkspaces
    from collegium.runtime.room import NoKnowledge
    from collegium.tools.builtin import builtin_tools
    from collegium.tools.context import ToolContext
    from collegium.tools.toolbox import Toolbox

    workspace = await MemoryWorkspaces().open("t", "run_1")
    context = ToolContext(tenant="t", run="run_1", task="a", key=None, retriever=NoKnowledge(), workspace=workspace)
    for call in (ask("Who?"), share("Ann."), inbox()):
        result = await Toolbox(builtin_tools()).call(call, granted={call.name}, context=context)
        assert not result.is_ok
        assert "run" in result.text
