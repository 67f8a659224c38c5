"""Tasks whose workers died and that may not or cannot go on: what they had begun to do to the world is told of."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from collegium.adapters.presence import MemoryPresence
from collegium.app import Collegium
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage, ToolCall
from collegium.domain.event import Draft
from collegium.domain.head import Fence, HeadChange
from collegium.domain.ids import Ids
from collegium.domain.usage import Allotment, Limits, Usage
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel
from collegium.tools.canonical import arguments_sha256, idempotency_key
from collegium.tools.definition import tool
from tests.unit.runtime.plans import ONE

DEAD = "wrk_dead"
PAY = ToolCall(id="c1", name="pay", arguments={"amount": 5})


def begun(key: str) -> tuple[b.StepProposed, b.ToolIntended]:
    """A step that proposes to pay, and the intent of it."""
    step = b.StepProposed(
        step=1,
        added=(),
        reply=ChatMessage(role="assistant", tool_calls=(PAY,)),
        finish="tool_calls",
        model="m",
        usage=Usage(),
        request_sha256="",
        tools=("pay",),
        is_fresh=True,
    )
    intended = b.ToolIntended(
        step=1,
        call=0,
        key=key,
        tool="pay",
        tool_version="1",
        effect="write",
        arguments=PAY.arguments,
        arguments_sha256=arguments_sha256(PAY.arguments),
    )
    return step, intended


class Mourning(MemoryPresence):
    """Takes one worker for dead."""

    async def dead(self) -> tuple[str, ...]:
        return (DEAD,)


async def start(app: Collegium, run: str, clock: FakeClock, attempt: int, *recorded: b.Body) -> None:
    """The attempt is started by a worker that dies after ``recorded``."""
    ids = Ids(lambda: 1, lambda size: bytes([attempt] * size))
    journal, fence = app.stores.journal, Fence(task="do", attempt=attempt)
    state = await app.state(run)
    started = b.TaskStarted(worker=DEAD, agent="operator", agent_version="1", model="scripted")
    for body in (started, *recorded):
        draft = Draft(id=ids.new("evt"), tenant="default", at=clock.now(), body=body, task="do", attempt=attempt)
        is_start = body is started
        await journal.append(
            run,
            [draft],
            expected=state.deciding_seq if is_start else None,
            fence=fence,
            head=HeadChange(status="running", wake_at=None) if is_start else None,
        ).durable()


async def test_a_write_that_a_quarantined_task_left_open_is_told_of() -> None:
    clock = FakeClock()
    stores = replace(memory_stores(clock), presence=Mourning())
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = (await app.submit("x", plan=ONE)).id
        for attempt in range(1, 5):
            await app.resume(run)
            await start(app, run, clock, attempt, *(begun("k1") if attempt == 1 else ()))
        await app.resume(run)
        events = [e async for e in app.events(run)]
        bodies = [e.body for e in events]
        lapses = [e.has_progressed for e in bodies if isinstance(e, b.TaskLapsed)]
        assert lapses == [True, False, False, False]
        told = [i for i, e in enumerate(bodies) if isinstance(e, b.ToolOutcomeUnknown) and e.key == "k1"]
        given_up = [i for i, e in enumerate(bodies) if isinstance(e, b.TaskQuarantined)]
        assert len(told) == len(given_up) == 1
        assert told[0] < given_up[0]
        end = bodies[-1]
        assert isinstance(end, b.RunFinished)
        assert any("pay" in sentence for sentence in end.missing)


async def test_a_write_is_looked_into_although_there_is_nothing_left_to_spend() -> None:
    """An attempt that may not ask its model once more still answers for the calls of the one before it."""
    clock = FakeClock()
    stores = replace(memory_stores(clock), presence=Mourning())

    @tool(effect="write", timeout_s=0.1)
    async def pay(amount: int) -> str:
        """Pays."""
        raise AssertionError("it may have been paid before")

    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none", tools=[pay]) as app:
        run = (await app.submit("x", plan=ONE, tools=["pay"], limits=Limits(tokens=2_000))).id
        await app.resume(run)
        reserved = b.LimitReserved(reservation="do/1", allotment=Allotment(tokens=2_000))
        key = idempotency_key(run, "do", step=1, call=0)
        await start(app, run, clock, 1, reserved, *begun(key))
    async with team(ScriptedModel([]), stores=stores, clock=clock, tools=[pay]) as heir:
        await heir.resume(run)
        async with asyncio.timeout(10):
            while (state := await heir.state(run)).status not in ("waiting", "succeeded") or key not in state.unknown:
                assert state.finished is None
                await clock.advance(0.5)
        assert state.tasks["do"].park == "outcome_unknown"
