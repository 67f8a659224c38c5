"""The machine's clock is put an hour forth or back in the middle of a run: nothing fires twice and nothing is stuck."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.clock import SystemClock
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.domain import body as b
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelUnavailable
from collegium.domain.message import Message
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Limits
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import tool

HOUR_NS = 3_600 * 10**9
PLAN = Plan(
    tasks=(
        Task(id="a", title="A", capability="operate", instructions="Pay."),
        Task(id="b", title="B", capability="operate", instructions="Tell.", depends_on=("a",)),
    )
)


class Machine:
    """Its clock can be put forth and back; the time that passes is the real one."""

    def __init__(self) -> None:
        self.off_ns = 0
        self.clock = SystemClock(wall_ns=lambda: time.time_ns() + self.off_ns)


class Jumping(ScriptedModel):
    """The clock jumps during every call, to and fro."""

    def __init__(self, steps: list[Step], machine: Machine, jump_ns: int) -> None:
        super().__init__(steps)
        self._machine = machine
        self._jump_ns = jump_ns

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._machine.off_ns = 0 if self._machine.off_ns else self._jump_ns
        return await super().complete(request)


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS], ids=["forth", "back"])
async def test_a_run_goes_on_as_if_nothing_had_been(jump_ns: int) -> None:
    machine = Machine()
    paid: list[str] = []

    @tool(effect="write", capabilities=["operate"])
    async def pay() -> str:
        """Pay."""
        paid.append("once")
        return "paid"

    steps = [
        Step(error=ModelUnavailable("away")),
        Step(tool_calls=(ToolCall(id="c", name="pay", arguments={}),)),
        Step(error=ModelUnavailable("away")),
        Step(reply="Paid."),
        Step(error=ModelUnavailable("away")),
        Step(reply="Told."),
    ]
    model = Jumping(steps, machine, jump_ns)
    async with team(model, tools=[pay], clock=machine.clock, now_ms=machine.clock.now_ms) as app:
        run = await app.submit("x", plan=PLAN, limits=Limits(deadline_s=60))
        report = await asyncio.wait_for(run.result(), 30)
        events = [e async for e in app.events(run.id)]
    model.verify()
    assert report.status == "succeeded"
    assert paid == ["once"]
    assert report.seconds < 30
    waited = [e.body.wake_at - e.at for e in events if isinstance(e.body, b.TaskParked) and e.body.wake_at is not None]
    assert len(waited) == 3
    assert all(0 < w.total_seconds() < 5 for w in waited)
    assert [e.at for e in events] == sorted(e.at for e in events)
    assert [e.id for e in events] == sorted(e.id for e in events)


async def test_a_deadline_is_of_time_that_passes() -> None:
    machine = Machine()
    model = ScriptedModel([Step(delay_s=60, reply="late")])
    async with team(model, clock=machine.clock) as app:
        begun = time.monotonic()
        run = await app.submit("x", plan=PLAN, limits=Limits(deadline_s=0.5))
        machine.off_ns = -HOUR_NS
        report = await asyncio.wait_for(run.result(), 20)
        assert report.plan.tasks[0].status == "failed"
        assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS], ids=["forth", "back"])
async def test_a_claim_hides_a_message_as_long_as_it_was_to(tmp_path: Path, jump_ns: int) -> None:
    machine = Machine()
    bus = SqliteBus(tmp_path / "bus.db", machine.clock, rules=BusRules(hide_s=1.5))

    async def claimed() -> int:
        return len(await bus.claim(("work",), "workers", limit=9))

    await bus.publish(Message(id="m", topic="work", tenant="t", body={}))
    assert await claimed() == 1
    machine.off_ns = jump_ns
    assert await claimed() == 0, "handed out twice"
    async with asyncio.timeout(20):
        while not await claimed():  # noqa: ASYNC110 - the message comes back when its time is over
            await asyncio.sleep(0.05)
    await bus.aclose()
