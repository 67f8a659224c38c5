"""Cancel: whenever it comes, nothing is called any more once the run has ended, and what there was is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.app import Collegium, Stores
from collegium.domain.chat import Delta, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import NotFound
from collegium.domain.event import Draft, Event
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Usage
from collegium.ports import Receipt
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import SCRIPTED_PROFILE
from collegium.tools.definition import tool

PLAN = Plan(
    tasks=(
        Task(id="a", title="A", capability="operate", instructions="Note task-a"),
        Task(id="b", title="B", capability="operate", instructions="Note task-b"),
        Task(id="c", title="C", capability="operate", instructions="Note task-c", depends_on=("a", "b")),
    )
)


class Calls:
    """Every call of a model or a tool, as it starts."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.at_the_end: int | None = None
        self.events = 0
        self.reached = asyncio.Event()
        self.stop_at: int | None = None

    async def pause(self, what: str) -> None:
        """A call starts, and gives way to others a few times before it ends."""
        self.started.append(what)
        for _ in range(3):
            await asyncio.sleep(0)


class Notes:
    """A model that writes a note with each task, looks at it, and answers."""

    profile = SCRIPTED_PROFILE

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def complete(self, request: ModelRequest) -> ModelReply:
        """A write, then a look, then the answer."""
        await self._calls.pause("model")
        usage = Usage(input_tokens=10, output_tokens=5, model_calls=1)
        seen = sum(1 for m in request.messages if m.role == "tool")
        task = next(w for m in request.messages for w in m.text.split() if w.startswith("task-"))
        if seen < 2:
            call = ToolCall(id=f"c{seen}", name=("note", "look")[seen], arguments={"about": task})
            return ModelReply(
                text=f"Working on {task}.", tool_calls=(call,), finish="tool_calls", usage=usage, model="notes"
            )
        return ModelReply(text=f"Noted {task}.", usage=usage, model="notes")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Whole at once."""
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


class Watched:
    """A journal that says what is appended, and how many calls had started when the run's end was."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def append(self, run: str, drafts: Sequence[Draft], **options: Any) -> Receipt:
        if any(d.type == "run.finished" for d in drafts):
            self._calls.at_the_end = len(self._calls.started)
        receipt: Receipt = self._inner.append(run, drafts, **options)
        self._calls.events += len(drafts)
        if self._calls.stop_at is not None and self._calls.events >= self._calls.stop_at:
            self._calls.reached.set()
        return receipt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@asynccontextmanager
async def noting(calls: Calls, stores: Stores | None = None) -> AsyncIterator[Collegium]:
    stores = stores or memory_stores(SystemClock())

    @tool(effect="write", capabilities=["operate"])
    async def note(about: str) -> str:
        """Write a note.

        Args:
            about: On what.
        """
        await calls.pause("note")
        return "noted"

    @tool(effect="read", capabilities=["operate"])
    async def look(about: str) -> str:
        """Look at a note.

        Args:
            about: On what.
        """
        await calls.pause("look")
        return "it is there"

    watched = replace(stores, journal=Watched(stores.journal, calls))
    async with team(Notes(calls), tools=[note, look], stores=watched) as app:
        yield app


async def history(app: Collegium, run: str) -> list[Event]:
    return [e async for e in app.events(run)]


async def recorded() -> int:
    """How many events the run has when nobody cancels it."""
    async with noting(Calls()) as app:
        run = await app.submit("x", plan=PLAN)
        assert (await run.result()).status == "succeeded"
        return len(await history(app, run.id))


async def test_cancelled_at_every_event_nothing_is_called_after_the_end() -> None:
    length = await recorded()
    assert length > 30
    ends: list[str] = []
    answers: dict[int, object] = {}
    for seq in range(1, length + 1):
        calls = Calls()
        calls.stop_at = seq
        async with noting(calls) as app:
            run = await app.submit("x", plan=PLAN)
            await asyncio.wait_for(calls.reached.wait(), 10)
            await run.cancel(reason=f"at {seq}")
            report = await asyncio.wait_for(run.result(), 10)
            for _ in range(50):
                await asyncio.sleep(0)
            ends.append(report.status)
            assert calls.at_the_end == len(calls.started), f"cancelled at {seq}: {calls.started[calls.at_the_end :]}"
            check_history(await history(app, run.id), seq, is_cancelled=report.status == "cancelled")
            settled = [t for t in (await run.state()).tasks.values() if t.status == "succeeded"]
            if settled and report.status == "cancelled":
                answers[seq] = report.answer
    assert ends.count("cancelled") >= length - 4
    assert len(answers) >= 5, "some were cancelled when a task was done"
    assert [seq for seq, answer in answers.items() if answer is None] == []


def check_history(events: Sequence[Event], seq: int, *, is_cancelled: bool) -> None:
    types = [e.type for e in events]
    assert types.count("run.cancel_requested") == is_cancelled, f"cancelled at {seq}"
    after = types[types.index("run.cancel_requested" if is_cancelled else "run.finished") :]
    assert "task.ready" not in after, f"cancelled at {seq}"
    assert "task.started" not in after, f"cancelled at {seq}"
    assert types.count("run.finished") == 1
    assert after[-1] == "run.finished", f"cancelled at {seq}: {after}"
    intended = {e.body.key for e in events if e.type == "tool.intended"}  # type: ignore[attr-defined]
    finished = {e.body.key for e in events if e.type == "tool.finished"}  # type: ignore[attr-defined]
    unknown = {e.body.key for e in events if e.type == "tool.outcome_unknown"}  # type: ignore[attr-defined]
    assert intended - finished == unknown, f"cancelled at {seq}"


async def test_what_a_task_had_written_when_it_was_cancelled_is_kept() -> None:
    calls = Calls()
    async with noting(calls) as app:
        run = await app.submit("x", plan=Plan(tasks=PLAN.tasks[:1]))
        await until(lambda: "look" in calls.started)
        await run.cancel()
        report = await run.result()
    assert report.status == "cancelled"
    assert report.answer is not None
    assert "Working on task-a." in report.answer.text


async def test_cancelled_before_there_is_a_plan() -> None:
    calls = Calls()
    async with noting(calls) as app:
        run = await app.submit("Note task-x")
        await run.cancel()
        report = await run.result()
        assert report.status == "cancelled"
        types = [e.type for e in await history(app, run.id)]
    assert "run.planned" not in types


async def test_twice_and_after_the_end_nothing_happens() -> None:
    async with noting(Calls()) as app:
        run = await app.submit("x", plan=PLAN)
        await asyncio.gather(run.cancel("one"), run.cancel("two"))
        assert (await run.result()).status == "cancelled"
        await run.cancel("three")
        types = [e.type for e in await history(app, run.id)]
    assert types.count("run.cancel_requested") == 1
    assert types[-1] == "run.finished"


async def test_another_tenants_run_is_not_there() -> None:
    async with noting(Calls()) as app:
        run = await app.submit("x", plan=PLAN, tenant="other")
        with pytest.raises(NotFound):
            await app.cancel(run.id)
        assert (await run.result()).status == "succeeded"


async def test_another_process_cancels_what_this_one_works_on() -> None:
    """The process that cancels works on nothing; the one that works hears of it within its next look."""
    stores, begun = memory_stores(SystemClock()), asyncio.Event()
    ended: list[str] = []

    class Slow(Notes):
        async def complete(self, request: ModelRequest) -> ModelReply:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("model")
                raise
            return await super().complete(request)

    async with (
        team(Slow(Calls()), stores=stores) as worker,
        team(Slow(Calls()), stores=own_bus(stores), scope="none") as console,
    ):
        run = await worker.submit("x", plan=Plan(tasks=PLAN.tasks[:2]))
        await begun.wait()
        await console.cancel(run.id, reason="from elsewhere")
        report = await asyncio.wait_for(console.result(run.id), 10)
    assert report.status == "cancelled"
    assert ended == ["model", "model"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0)
