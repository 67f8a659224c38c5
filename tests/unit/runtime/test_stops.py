"""Kill switches: what is stopped has no new effect after two seconds, loses nothing, goes on when it is started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.app import Collegium, Scope, Stores
from collegium.domain.chat import Delta, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import UsageError
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Limits, Usage
from collegium.ports import Clock
from collegium.runtime.stops import Kind
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import SCRIPTED_PROFILE
from collegium.tools.context import ToolContext
from collegium.tools.definition import Tool, tool


class Sender:
    """A model that has one letter sent by each task, and then says so."""

    profile = SCRIPTED_PROFILE

    def __init__(self) -> None:
        self.asked = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        """A call of ``send``, or the answer once there is a result."""
        self.asked += 1
        usage = Usage(input_tokens=10, output_tokens=5, model_calls=1)
        results = [m for m in request.messages if m.role == "tool"]
        if results:
            return ModelReply(text=f"Done: {results[-1].text}", usage=usage, model="sender")
        name = next(line for line in request.messages[1].text.split() if line.startswith("to-"))
        call = ToolCall(id="c1", name="send", arguments={"to": name})
        return ModelReply(tool_calls=(call,), finish="tool_calls", usage=usage, model="sender")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Whole at once."""
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


def letters(count: int) -> Plan:
    names = [f"t{i}" for i in range(count)]
    return Plan(
        tasks=tuple(Task(id=n, title=n, capability="operate", instructions=f"Send a letter to-{n} now") for n in names)
    )


class Post:
    """The far side: every letter that went out, when, and under which key."""

    def __init__(self, clock: Clock, *, takes_s: float = 0.4) -> None:
        self.sent: dict[str, float] = {}
        self.begun: list[float] = []
        self._clock = clock
        self._takes_s = takes_s

    @property
    def tool(self) -> Tool:
        """Sends once per key, however often it is called."""

        @tool(effect="idempotent_write", capabilities=["operate"])
        async def send(to: str, context: ToolContext) -> str:
            """Send a letter.

            Args:
                to: To whom.
            """
            self.begun.append(self._clock.monotonic())
            await self._clock.sleep(self._takes_s)
            assert context.key is not None
            self.sent.setdefault(context.key, self._clock.monotonic())
            return f"sent {to}"

        return send


async def until(condition: Callable[[], bool], clock: FakeClock, *, at_most_s: float = 120.0) -> None:
    ends_s = clock.monotonic() + at_most_s
    while not condition():
        assert clock.monotonic() < ends_s, "it takes too long"
        await clock.advance(0.1)


async def until_over(app: Collegium, run: str, clock: FakeClock) -> str:
    async with asyncio.timeout(60):
        while (state := await app.state(run)).finished is None:
            await clock.advance(0.2)
    return state.status


@asynccontextmanager
async def process(
    stores: Stores, clock: Clock, tools: Sequence[Tool] = (), *, scope: Scope = "all", limits: Limits | None = None
) -> AsyncIterator[Collegium]:
    """One process of several over the same stores."""
    own = replace(stores, presence=MemoryPresence())
    async with team(Sender(), tools=tools, stores=own, clock=clock, scope=scope, limits=limits) as app:
        yield app


@pytest.mark.parametrize("kind", ["tenant", "run", "agent"])
async def test_in_a_fan_out_of_a_hundred_nothing_more_happens_two_seconds_after_the_stop(kind: Kind) -> None:
    """The switch is thrown in a process that works on nothing; it outlives all of them; a new one goes on."""
    clock = FakeClock()
    stores, post = memory_stores(clock), Post(clock, takes_s=3.0)
    async with process(stores, clock, [post.tool]) as one, process(stores, clock, [post.tool]):
        run = await one.submit("x", plan=letters(100), limits=Limits(tasks=100, parallel=10))
        name = {"tenant": "default", "run": run.id, "agent": "operator"}[kind]
        await until(lambda: len(post.sent) >= 30, clock)
        async with process(stores, clock, scope="none") as console:
            await console.breaker.stop(kind, name, reason="too many letters")
        stopped_s = clock.monotonic()
        for _ in range(60):
            await clock.advance(0.5)
        effects, begun = len(post.sent), len(post.begun)
        assert 30 <= effects < 100
        assert max(post.sent.values()) <= stopped_s + 2.0
        assert max(post.begun) <= stopped_s + 2.0
        state = await run.state()
        assert state.status == "waiting"
        assert not any(t.is_open or t.failures for t in state.tasks.values())
        assert {t.park for t in state.tasks.values() if t.status == "parked"} == {"stopped"}
    async with process(stores, clock, [post.tool]) as heir:
        for _ in range(20):
            await clock.advance(0.5)
        assert len(post.begun) == begun
        async with process(stores, clock, scope="none") as console:
            assert [(s.kind, s.name, s.reason) for s in await console.breaker.switches()] == [
                (kind, name, "too many letters")
            ]
            assert await console.breaker.start(kind, name) == (True, (run.id,))
        assert await until_over(heir, run.id, clock) == "succeeded"
    assert len(post.sent) == 100


async def test_calls_of_a_stopped_tool_are_ended_and_refused_and_agents_go_on_without_it() -> None:
    clock = FakeClock()
    stores, post = memory_stores(clock), Post(clock, takes_s=30)
    async with process(stores, clock, [post.tool]) as app:
        run = await app.submit("x", plan=letters(4), limits=Limits(parallel=2))
        await until(lambda: len(post.begun) == 2, clock)
        async with process(stores, clock, scope="none") as console:
            await console.breaker.stop("tool", "send", reason="wrong recipients")
        assert await until_over(app, run.id, clock) == "succeeded"
        state = await run.state()
    texts = [t.result.text for t in state.tasks.values() if t.result is not None]
    assert len(post.begun) == 2
    assert not post.sent
    assert sum("stopped by a person while it was being called" in t for t in texts) == 2
    assert sum("was not called, it is stopped: wrong recipients" in t for t in texts) == 2


async def test_a_write_that_is_ended_by_a_switch_is_asked_about() -> None:
    clock, begun = FakeClock(), asyncio.Event()

    @tool(effect="write", capabilities=["operate"])
    async def send(to: str) -> str:
        """Send a letter.

        Args:
            to: To whom.
        """
        begun.set()
        await clock.sleep(30)
        return "sent"

    async with process(memory_stores(clock), clock, [send]) as app:
        run = await app.submit("x", plan=letters(1))
        await until(begun.is_set, clock)
        await app.breaker.stop("tool", "send")
        async with asyncio.timeout(20):
            while (state := await run.state()).status != "waiting":
                await clock.advance(0.1)
    assert next(iter(state.unknown.values())).tool == "send"
    assert state.open_approvals[0].request.kind == "outcome"


async def test_a_run_that_was_stopped_is_told_of_when_it_is_to_be_resumed() -> None:
    clock = FakeClock()
    stores, post = memory_stores(clock), Post(clock)
    async with process(stores, clock, [post.tool]) as app:
        await app.breaker.stop("tenant", "default", reason="the bill")
        run = await app.submit("x", plan=letters(2))
        async with asyncio.timeout(20):
            while (await run.state()).status != "waiting":
                await clock.advance(0.1)
        with pytest.raises(
            UsageError, match=r"stopped by local \(the bill\): `collegium start tenant default` lets it"
        ):
            await app.resume(run.id)
        await app.breaker.start("tenant", "default")
        assert await until_over(app, run.id, clock) == "succeeded"
    assert len(post.sent) == 2


async def test_started_before_the_park_was_stored_the_task_goes_on_all_the_same() -> None:
    """The switch is thrown and taken away before the worker has parked what it ended."""
    clock = FakeClock()
    stores, post = memory_stores(clock), Post(clock, takes_s=5)
    async with (
        process(stores, clock, [post.tool], scope="own") as app,
        process(stores, clock, scope="none") as console,
    ):
        run = await app.submit("x", plan=letters(1))
        await until(lambda: len(post.begun) == 1, clock)
        stopping = asyncio.create_task(app.breaker.stop("run", run.id))
        while not await console.breaker.switches():  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0)
        await console.breaker.start("run", run.id)
        await stopping
        assert await until_over(app, run.id, clock) == "succeeded"
    assert len(post.sent) == 1


async def test_twice_stopped_keeps_the_first_reason_and_what_is_not_stopped_starts_nothing() -> None:
    clock = SystemClock()
    stores = replace(memory_stores(clock), bus=MemoryBus(clock))
    async with process(stores, clock, scope="none") as app:
        await app.breaker.stop("tool", "send", reason="one")
        assert (await app.breaker.stop("tool", "send", reason="two")).reason == "one"
        assert await app.breaker.start("tool", "send") == (True, ())
        assert await app.breaker.start("tool", "send") == (False, ())
        assert await app.breaker.switches() == ()


async def test_what_is_stopped_can_be_cancelled() -> None:
    clock = FakeClock()
    stores, post = memory_stores(clock), Post(clock, takes_s=5)
    async with process(stores, clock, [post.tool]) as app:
        run = await app.submit("x", plan=letters(2))
        await until(lambda: len(post.begun) == 2, clock)
        await app.breaker.stop("run", run.id)
        await run.cancel()
        assert (await run.result()).status == "cancelled"
        await app.resume(run.id)
    assert not post.sent
