"""Interleavings and faults that once left a run hanging, doubled, uncapped or silent."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import FilePresence
from collegium.adapters.sqlite.store import open_store
from collegium.app import Collegium
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelUnavailable, NotFound, StoreFull, StoreUnavailable
from collegium.domain.event import Draft
from collegium.domain.head import Head, HeadQuery
from collegium.domain.message import Claim, Message
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Limits
from collegium.ports import Receipt
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import tool
from tests.unit.runtime.plans import ONE

pytestmark = pytest.mark.usefixtures("short_waits")

CHAIN = Plan(
    tasks=(
        Task(id="a", title="A", capability="operate"),
        Task(id="b", title="B", capability="operate", depends_on=("a",)),
    )
)
DONE = Step(reply="Done.", times=9)


class Wrapped:
    """A port with one method of its own; everything else is the real one's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0.005)


async def status(app: Collegium, run: str) -> str:
    return (await asyncio.wait_for(app.result(run), 10)).status


async def types(app: Collegium, run: str) -> list[str]:
    return [e.type async for e in app.events(run)]


class LockedWhileParking(Wrapped):
    is_locked = False

    def append(self, run: str, drafts: Sequence[Draft], **options: Any) -> Receipt:
        if self.is_locked and any(d.type == "task.parked" for d in drafts):
            return Refused()
        receipt: Receipt = self._inner.append(run, drafts, **options)
        return receipt


class Refused:
    async def durable(self) -> tuple[Any, ...]:
        raise StoreUnavailable("the store is locked")


async def test_an_attempt_that_could_not_be_closed_is_found_by_the_next_process(tmp_path: Path) -> None:
    journal = LockedWhileParking(memory_stores(SystemClock()).journal)
    stores = replace(memory_stores(SystemClock()), journal=journal, presence=FilePresence(tmp_path))
    model = ScriptedModel([Step(delay_s=60, reply="late")])
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=ONE)
        await until(lambda: bool(model.requests))
        journal.is_locked = True
    journal.is_locked = False
    async with team(ScriptedModel([DONE]), stores=own_bus(stores)) as heir:
        assert await status(heir, (await heir.resume(run.id)).id) == "succeeded"


class SlowSettle(Wrapped):
    is_inside = False

    async def settle(self, claim: Claim, **options: Any) -> None:
        self.is_inside = True
        await asyncio.sleep(0.05)
        await self._inner.settle(claim, **options)


@pytest.mark.parametrize("how", ["drain", "cancel"])
async def test_an_attempt_stopped_while_its_claim_is_settled_is_closed(how: str) -> None:
    stores = memory_stores(SystemClock())
    bus = SlowSettle(stores.bus)
    async with team(ScriptedModel([]), stores=replace(stores, bus=bus)) as app:
        run = await app.submit("x", plan=ONE)
        await until(lambda: bus.is_inside)
        if how == "cancel":
            await run.cancel()
            assert await status(app, run.id) == "cancelled"
            return
    async with team(ScriptedModel([DONE]), stores=own_bus(stores)) as heir:
        assert await status(heir, (await heir.resume(run.id)).id) == "succeeded"


async def test_a_step_that_could_not_be_stored_is_asked_for_again_by_a_new_attempt(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db", busy_timeout_s=0.1)
    stores = replace(
        memory_stores(SystemClock()),
        journal=store.journal,
        records=store.records,
        blobs=store.blobs,
        presence=FilePresence(tmp_path / "workers"),
    )
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    failed = store.writer.stats.failures

    @tool(effect="read", capabilities=["operate"])
    async def look() -> str:
        """Look."""
        await until(lambda: store.writer.stats.failures > failed)  # the step before it is lost
        other.execute("ROLLBACK")
        return "seen"

    class Locking(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            reply = await super().complete(request)
            if len(self.requests) == 1:
                other.execute("BEGIN IMMEDIATE")
            return reply

    call = ToolCall(id="c1", name="look", arguments={})
    model = Locking([Step(tool_calls=(call,)), DONE])
    async with team(model, stores=stores, tools=[look]) as app:
        run = await app.submit("x", plan=ONE)
        assert await status(app, run.id) == "succeeded"
        assert "task.lapsed" in await types(app, run.id)
    other.close()
    store.close()


async def test_a_resumed_run_has_the_limits_it_was_given() -> None:
    stores = memory_stores(SystemClock())
    model = ScriptedModel([Step(delay_s=60, reply="late")])
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=ONE, limits=Limits(tokens=8_000))
        await until(lambda: bool(model.requests))
    async with team(ScriptedModel([]), stores=own_bus(stores)) as heir:
        resumed = await heir.resume(run.id)
        assert await status(heir, resumed.id) == "limited"
        allotted = [e.body.allotment.tokens async for e in heir.events(run.id) if e.type == "task.ready"]  # type: ignore[attr-defined]
        assert allotted[0] == 8_000
        assert 0 <= allotted[1] < 8_000


async def test_a_timeout_inside_a_call_is_not_taken_for_the_deadline() -> None:
    class Late(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            if not self.requests:
                self.requests.append(request)
                raise TimeoutError
            return await super().complete(request)

    async with team(Late([DONE])) as app:
        first = await (await app.submit("x", plan=ONE)).result()
        assert (first.status, first.error) == ("failed", "internal")
        assert await status(app, (await app.submit("y", plan=ONE)).id) == "succeeded"


class AwayOnce(Wrapped):
    was_away = False

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        if not self.was_away:
            self.was_away = True
            raise StoreUnavailable("locked")
        heads: tuple[Head, ...] = await self._inner.heads(query)
        return heads


async def test_the_sweep_goes_on_when_the_store_comes_back() -> None:
    stores = memory_stores(SystemClock())
    stores = replace(stores, journal=AwayOnce(stores.journal))
    model = ScriptedModel([Step(error=ModelUnavailable("away")), DONE])
    async with team(model, stores=stores, scope="all") as app:
        run = await app.submit("x", plan=ONE)
        assert await status(app, run.id) == "succeeded"


class FullFor(Wrapped):
    """A journal or a bus that takes and finds nothing from its ``first`` call of a kind on, ``times`` times."""

    def __init__(self, inner: Any, *, call: str, first: int, times: int) -> None:
        super().__init__(inner)
        self._call, self._left = call, iter([False] * first + [True] * times)
        self.was_full = False

    def __getattr__(self, name: str) -> Any:
        if name == self._call and next(self._left, False):
            self.was_full = True
            raise StoreFull("no space left")
        return super().__getattr__(name)


@pytest.mark.parametrize(
    ("part", "call", "first"),
    [("journal", "append", 2), ("journal", "append", 3), ("journal", "heads", 3), ("bus", "claim", 3)],
)
async def test_a_worker_for_everybody_goes_on_when_a_full_disk_has_room_again(part: str, call: str, first: int) -> None:
    clock = FakeClock()
    stores = memory_stores(clock)
    full = FullFor(getattr(stores, part), call=call, first=first, times=2)
    changed: dict[str, Any] = {part: full}
    model = ScriptedModel([Step(reply="Done.", times=None)])
    async with team(model, stores=replace(stores, **changed), scope="all", clock=clock) as app:
        run = await app.submit("x", plan=ONE)
        async with asyncio.timeout(20):
            while (await app.state(run.id)).status != "succeeded" or not full.was_full:
                await clock.advance(0.5)


@pytest.mark.parametrize("error", [StoreFull("no space left for bus.db"), OSError(28, "No space left on device")])
async def test_work_that_could_not_be_published_is_published_by_the_sweep(error: Exception) -> None:
    class FullOnce(Wrapped):
        published = 0

        async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
            self.published += 1
            if self.published == 2:
                raise error
            return int(await self._inner.publish(*messages, delay_s=delay_s))

    stores = memory_stores(SystemClock())
    async with team(ScriptedModel([DONE]), stores=replace(stores, bus=FullOnce(stores.bus))) as app:
        run = await app.submit("x", plan=CHAIN)
        assert await status(app, run.id) == "succeeded"


@pytest.mark.parametrize("error", [StoreUnavailable("the bus is away"), OSError(5, "Input/output error")])
async def test_a_bus_that_settles_nothing_neither_fails_an_attempt_nor_repeats_one(error: Exception) -> None:
    class NeverSettles(Wrapped):
        async def settle(self, claim: Claim, **_: Any) -> None:
            raise error

    stores = memory_stores(SystemClock())
    model = ScriptedModel([DONE])
    async with team(model, stores=replace(stores, bus=NeverSettles(stores.bus))) as app:
        run = await app.submit("x", plan=CHAIN)
        assert await status(app, run.id) == "succeeded"
        told = await types(app, run.id)
    assert (told.count("task.started"), told.count("task.lapsed"), len(model.requests)) == (2, 0, 2)


async def test_all_tasks_that_became_ready_together_are_published_together() -> None:
    class Counting(Wrapped):
        lots: ClassVar[list[int]] = []

        async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
            self.lots.append(len(messages))
            return int(await self._inner.publish(*messages, delay_s=delay_s))

    stores = memory_stores(SystemClock())
    plan = Plan(tasks=tuple(Task(id=x, title=x, capability="operate") for x in "abcde"))
    async with team(ScriptedModel([DONE]), stores=replace(stores, bus=Counting(stores.bus))) as app:
        assert await status(app, (await app.submit("x", plan=plan)).id) == "succeeded"
    assert Counting.lots[0] == 5


async def test_another_tenants_run_does_not_exist() -> None:
    async with team(ScriptedModel([DONE])) as app:
        run = await app.submit("a's goal", plan=ONE, tenant="a")
        await run.result()
        for attempt in (
            app.submit("tell me", continues=run.id, plan=ONE, tenant="b"),
            app.state(run.id, tenant="b"),
            app.result(run.id, tenant="b"),
            app.resume(run.id, tenant="b"),
            app.cancel(run.id, tenant="b"),
        ):
            with pytest.raises(NotFound):
                await attempt
        with pytest.raises(NotFound):
            _ = [e async for e in app.events(run.id, tenant="b")]


async def test_asking_on_shows_what_another_process_has_answered_meanwhile() -> None:
    stores = memory_stores(SystemClock())
    slow = ScriptedModel([Step(delay_s=0.3, reply="The answer is 42.")])
    quick = ScriptedModel([Step(reply="ok")])
    async with team(slow, stores=stores) as one, team(quick, stores=own_bus(stores)) as two:
        run = await one.submit("x", plan=ONE)
        await until(lambda: bool(slow.requests))
        await two.state(run.id)
        await run.result()
        await (await two.submit("and then?", continues=run.id, plan=ONE)).result()
    assert "The answer is 42." in quick.requests[0].messages[-1].text


async def test_a_message_is_not_dropped_because_this_process_knows_less() -> None:
    stores = memory_stores(SystemClock())
    model = ScriptedModel([Step(reply="Done.", times=99)], ordered=False)
    plan = Plan(
        tasks=tuple(
            Task(id=f"t{i}", title="T", capability="operate", depends_on=(f"t{i - 1}",) if i else ()) for i in range(6)
        )
    )
    async with team(model, stores=stores, scope="all") as one, team(model, stores=stores, scope="all"):
        report = await asyncio.wait_for((await one.submit("x", plan=plan)).result(), 10)
        assert report.status == "succeeded"
        # Every message that is dropped waits a second for the sweep to publish it again, and the chain has six.
        assert report.seconds < 3.0


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_write_that_is_ended_half_way_is_told_of(how: str) -> None:
    inside = asyncio.Event()

    @tool(effect="write", capabilities=["operate"])
    async def pay() -> str:
        """Pay."""
        inside.set()
        await asyncio.Event().wait()
        return "paid"

    model = ScriptedModel([Step(tool_calls=(ToolCall(id="c", name="pay", arguments={}),))])
    async with team(model, tools=[pay]) as app:
        limits = Limits(deadline_s=0.5) if how == "deadline" else Limits()
        run = await app.submit("x", plan=ONE, limits=limits)
        await inside.wait()
        if how == "cancel":
            await run.cancel()
        report = await asyncio.wait_for(run.result(), 10)
        assert "tool.outcome_unknown" in await types(app, run.id)
        assert any("pay may or may not have happened" in m for m in report.missing)


async def test_an_answer_that_twice_does_not_fit_is_not_tried_from_its_own_record() -> None:
    schema = {"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}
    plan = Plan(tasks=(Task(id="w", title="Write", capability="write", instructions="Who?"),))
    async with team(ScriptedModel([Step(reply="nope", times=2)])) as app:
        report = await (await app.submit("Who?", plan=plan, output_schema=schema)).result()
        assert (report.status, report.error) == ("failed", "answer_refused")
        assert report.plan.tasks[0].attempts == 1


async def test_steps_per_task_hold() -> None:
    look = ToolCall(id="c", name="list_inputs", arguments={})
    model = ScriptedModel([Step(tool_calls=(look,)), Step(reply="Done.")])
    async with team(model) as app:
        run = await app.submit("x", plan=ONE, limits=Limits(steps_per_task=2))
        assert await status(app, run.id) == "succeeded"
    assert model.requests[1].tools == ()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def test_a_worker_is_never_seen_without_its_lock(tmp_path: Path) -> None:
    mine, others = FilePresence(tmp_path), FilePresence(tmp_path)
    await mine.announce("wrk_1")
    assert await others.dead() == ()
    assert names(tmp_path) == ["wrk_1.lock"]
    await mine.abandon("wrk_1")
    assert await others.dead() == ("wrk_1",)
    await others.withdraw("wrk_1")
    assert names(tmp_path) == []
