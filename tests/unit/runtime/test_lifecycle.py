"""Standings of agents: said once they hold in every process, and nobody is left out who is the last that can."""

from __future__ import annotations

import pytest

from collegium.adapters.memory.records import MemoryRecords
from collegium.agents.roster import Roster, digest
from collegium.domain.agent import Agent
from collegium.domain.errors import (
    InternalFault,
    LimitReached,
    MissingKey,
    ModelRateLimited,
    ModelUnavailable,
    StoreUnavailable,
    TimedOut,
    UnknownName,
)
from collegium.ports import Records
from collegium.runtime.health import Health, own_fault
from collegium.runtime.lifecycle import COOL_DOWN_S, TRIAL_S, Lifecycle, retired
from collegium.testing.clock import FakeClock


def agent(name: str, *capabilities: str, model: str | None = None, timeout_s: float | None = None) -> Agent:
    return Agent(
        name=name,
        kind="operator",
        description=name,
        capabilities=capabilities or ("dig",),
        prompt="Work.",
        model=model,
        timeout_s=timeout_s,
    )


PAIR = Roster([agent("ann"), agent("bob")])


class Process:
    """A process's view: its own health, and the standings that all share."""

    def __init__(self, records: Records, clock: FakeClock, roster: Roster = PAIR) -> None:
        self.health = Health(clock)
        self.lifecycle = Lifecycle(
            records, roster, clock=clock, complaint=self.health.complaint, forget=self.health.forget
        )

    def fails(self, name: str, times: int, *, well: int = 0) -> None:
        for n in range(times):
            self.health.ended(name, run=f"run_{n}", seconds=1.0, why="internal: it broke")
        for n in range(well):
            self.health.ended(name, run=f"run_{n}", seconds=1.0)


async def test_a_drain_holds_in_every_process_and_after_all_of_them() -> None:
    clock, records = FakeClock(), MemoryRecords()
    one, other = Process(records, clock), Process(records, clock)
    await one.lifecycle.look()
    await one.lifecycle.drain("ann", reason="new prompt", principal="eve")
    assert one.lifecycle.takes("ann") == 0, "here at once"
    assert other.lifecycle.takes("ann") is None
    await other.lifecycle.look()
    assert other.lifecycle.takes("ann") == 0
    assert other.lifecycle.takes("bob") is None
    later = Process(records, clock)
    await later.lifecycle.look()
    assert later.lifecycle.condition("ann") == "draining"
    said = (await later.lifecycle.all())[0].why
    assert said is not None
    assert (said.condition, said.reason, said.principal, said.at) == ("draining", "new prompt", "eve", clock.now())
    await later.lifecycle.resume("ann", principal="eve")
    await one.lifecycle.look()
    assert one.lifecycle.condition("ann") == "active"
    assert [c.condition for c in (await one.lifecycle.all())[0].changes] == ["active", "draining", "active"]


async def test_agents_are_registered_with_their_versions_and_retire_from_the_roster() -> None:
    clock, records = FakeClock(), MemoryRecords()
    await Process(records, clock).lifecycle.look()
    newer = Roster([agent("ann", model="openai:new")])
    lifecycle = Process(records, clock, newer).lifecycle
    await lifecycle.look()
    ann, bob = await lifecycle.all()
    assert ann.version == digest(newer.get("ann"))
    assert [c.reason.partition(" in ")[0] for c in ann.changes] == ["registered", "registered"]
    assert [s.agent for s in retired((ann, bob), ["ann"])] == ["bob"]
    for _ in range(3):
        await lifecycle.look()
    assert len((await lifecycle.all())[0].changes) == 2, "once for each version"


async def test_unknown_agents_are_named() -> None:
    lifecycle = Process(MemoryRecords(), FakeClock()).lifecycle
    with pytest.raises(UnknownName, match="ann"):
        await lifecycle.drain("anne")


@pytest.mark.parametrize(
    ("failures", "well", "is_out"), [(4, 0, False), (5, 0, True), (5, 5, False), (11, 9, True), (10, 10, False)]
)
async def test_who_fails_too_often_is_quarantined(failures: int, well: int, is_out: bool) -> None:
    process = Process(MemoryRecords(), FakeClock())
    await process.lifecycle.look()
    process.fails("ann", failures, well=well)
    await process.lifecycle.look()
    assert process.lifecycle.condition("ann") == ("quarantined" if is_out else "active")
    if is_out:
        said = (await process.lifecycle.all())[0].why
        assert said is not None
        assert said.principal == "health"
        assert said.reason.startswith(f"{failures} of its last {failures + well} attempts failed")
        assert "it broke" in said.reason


async def test_failures_of_one_run_and_of_long_ago_do_not_count() -> None:
    clock = FakeClock()
    process = Process(MemoryRecords(), clock)
    for _ in range(9):
        process.health.ended("ann", run="run_bad", seconds=1.0, why="internal")
    await process.lifecycle.look()
    assert process.lifecycle.condition("ann") == "active"
    process.fails("bob", 9)
    await clock.advance(601)
    await process.lifecycle.look()
    assert process.lifecycle.condition("bob") == "active"


async def test_a_quarantined_agent_is_tried_again_with_one_task_in_all_processes() -> None:
    clock, records = FakeClock(), MemoryRecords()
    one, other = Process(records, clock), Process(records, clock)
    await one.lifecycle.look()
    one.fails("ann", 5)
    await one.lifecycle.look()
    await other.lifecycle.look()
    assert (one.lifecycle.takes("ann"), other.lifecycle.takes("ann")) == (0, 0)
    await clock.advance(COOL_DOWN_S)
    assert (one.lifecycle.takes("ann"), other.lifecycle.takes("ann")) == (1, 1)
    assert await one.lifecycle.begin_trial("ann", "run_1/a/1")
    assert not await other.lifecycle.begin_trial("ann", "run_2/a/1")
    await other.lifecycle.look()
    assert other.lifecycle.takes("ann") == 0
    await one.lifecycle.end_trial("ann", "run_1/a/1", is_well=False, why="internal")
    await clock.advance(COOL_DOWN_S)
    assert one.lifecycle.takes("ann") == 0, "it takes twice as long the second time"
    await clock.advance(COOL_DOWN_S)
    await other.lifecycle.look()
    assert await other.lifecycle.begin_trial("ann", "run_2/a/1")
    await other.lifecycle.end_trial("ann", "run_2/a/1", is_well=True)
    await one.lifecycle.look()
    assert (one.lifecycle.takes("ann"), other.lifecycle.takes("ann")) == (None, None)
    await one.lifecycle.look()
    assert one.lifecycle.condition("ann") == "active", "what was is not held against it again"


async def test_a_trial_that_says_nothing_or_is_never_told_of_is_made_again() -> None:
    clock = FakeClock()
    process = Process(MemoryRecords(), clock)
    await process.lifecycle.look()
    process.fails("ann", 5)
    await process.lifecycle.look()
    await clock.advance(COOL_DOWN_S)
    assert await process.lifecycle.begin_trial("ann", "run_1/a/1")
    await process.lifecycle.end_trial("ann", "run_1/a/1", is_well=None)
    assert await process.lifecycle.begin_trial("ann", "run_2/a/1")
    assert not process.lifecycle.may_try("ann")
    await clock.advance(TRIAL_S)
    assert process.lifecycle.may_try("ann"), "its worker is dead"


async def test_the_last_that_can_do_something_is_only_marked() -> None:
    process = Process(MemoryRecords(), FakeClock(), Roster([agent("ann", "dig", "sing"), agent("bob", "dig")]))
    await process.lifecycle.look()
    process.fails("ann", 9)
    await process.lifecycle.look()
    ann = (await process.lifecycle.all())[0]
    assert (ann.condition, ann.is_marked) == ("active", True)
    assert ann.why is not None
    assert "nobody else" in ann.why.reason
    await process.lifecycle.look()
    assert len((await process.lifecycle.all())[0].changes) == len(ann.changes), "said once"
    process.fails("bob", 9)
    await process.lifecycle.look()
    assert process.lifecycle.condition("bob") == "quarantined", "ann digs"
    process.fails("ann", 0, well=20)
    await process.lifecycle.look()
    assert not (await process.lifecycle.all())[0].is_marked


async def test_a_quarantined_one_goes_on_when_the_others_drain() -> None:
    process = Process(MemoryRecords(), FakeClock())
    await process.lifecycle.look()
    process.fails("ann", 9)
    await process.lifecycle.look()
    assert process.lifecycle.condition("ann") == "quarantined"
    await process.lifecycle.drain("bob")
    await process.lifecycle.look()
    ann, bob = await process.lifecycle.all()
    assert (ann.condition, ann.is_marked, bob.condition) == ("active", True, "draining")
    await process.lifecycle.drain("ann")
    await process.lifecycle.look()
    assert [s.condition for s in await process.lifecycle.all()] == ["draining", "draining"], "what a person says holds"


async def test_two_processes_that_quarantine_the_last_two_at_once_leave_one() -> None:
    clock, records = FakeClock(), MemoryRecords()
    one, other = Process(records, clock), Process(records, clock)
    await one.lifecycle.look()
    await other.lifecycle.look()
    one.fails("ann", 9)
    other.fails("bob", 9)
    # Both have looked, and neither knows of the other's decision.
    await one.lifecycle._judge("ann")
    await other.lifecycle._judge("bob")
    for process in (one, other, one):
        await process.lifecycle.look()
    active = [s.agent for s in await one.lifecycle.all() if s.condition == "active"]
    assert active


OWN, RUNS = agent("own", model="openai:x", timeout_s=5.0), agent("runs")


@pytest.mark.parametrize(
    ("error", "own", "runs"),
    [
        (InternalFault("x"), True, True),
        (TimedOut("x"), True, False),
        (ModelUnavailable("x"), True, False),
        (MissingKey("x"), True, False),
        (ModelRateLimited("x"), False, False),
        (LimitReached("x"), False, False),
        (StoreUnavailable("x"), False, False),
    ],
)
def test_what_is_an_agents_own_fault(error: Exception, own: bool, runs: bool) -> None:
    assert (own_fault(error, OWN) is not None, own_fault(error, RUNS) is not None) == (own, runs)  # type: ignore[arg-type]


async def test_figures_of_the_window() -> None:
    clock = FakeClock()
    health = Health(clock)
    for n in range(20):
        health.ended("ann", run="r", seconds=float(n + 1))
    health.ended("ann", run="r", seconds=99.0, why="x")
    seen = health.outcomes("ann")
    assert (seen.attempts, seen.failures, seen.seconds, seen.p95_s) == (21, 1, 10.0, 19.0)
    await clock.advance(601)
    assert health.outcomes("ann").attempts == 0
    assert health.outcomes("bob").attempts == 0
