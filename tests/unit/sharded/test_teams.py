"""A team over shards: its runs are spread, one shard that is away stops nobody else, and forks cross."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from collegium.adapters.bus_rules import DEFAULT_RULES
from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import MemoryPresence
from collegium.app import Collegium
from collegium.domain.body import TaskStarted
from collegium.domain.errors import StoreUnavailable
from collegium.domain.event import Draft
from collegium.domain.head import LIVE, Fence, HeadChange, HeadQuery
from collegium.domain.ids import Ids, shard_of
from collegium.runtime.audit import verify_stores
from collegium.runtime.heads import heads_of
from collegium.testing.conformance.drafts import eventually
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.plans import ONE
from tests.unit.sharded.stores import Sharded, sharded

RUNS = 300
DEAD = "wrk_dead"


def model() -> ScriptedModel:
    return ScriptedModel([Step(reply="Done.", times=None)])


async def finish(app: Collegium, count: int) -> list[str]:
    """So many runs, all of them ended well."""
    runs = await asyncio.gather(*(app.submit(f"goal {n}", plan=ONE) for n in range(count)))
    assert {(await run.result()).status for run in runs} == {"succeeded"}
    return [run.id for run in runs]


async def listed(s: Sharded, limit: int) -> list[str]:
    query = HeadQuery(tenant="default", limit=limit)
    return [head.run async for head in heads_of(s.journal, query)]


async def test_300_runs_are_spread_by_weight_and_a_fourth_shard_moves_none_of_them(tmp_path: Path) -> None:
    async with sharded(tmp_path, clock=SystemClock(), weights=(1.0, 2.0, 1.0)) as s:
        async with team(model(), stores=s.bundle(), scope="all") as app:
            runs = await finish(app, RUNS)
        counts = Counter(map(shard_of, runs))
        for shard, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
            assert counts[shard] / RUNS == pytest.approx(share, abs=0.09), counts  # more than three deviations
            own = await s.stores[shard].journal.heads(HeadQuery(tenant="default", limit=RUNS))
            assert sorted(head.run for head in own) == sorted(run for run in runs if shard_of(run) == shard)
        assert await listed(s, 37) == sorted(runs, reverse=True)
        parked = next(run for run in runs if shard_of(run) == 1)
        before = await s.journal.read(parked)
    async with sharded(tmp_path, 4, clock=SystemClock(), weights=(0.0, 1.0, 1.0, 2.0)) as s:
        async with team(model(), stores=s.bundle(), scope="all") as app:
            assert await listed(s, 41) == sorted(runs, reverse=True)
            assert await s.journal.read(parked) == before
            assert (await app.result(runs[0])).status == "succeeded"
            new = await finish(app, 40)
            assert {shard_of(run) for run in new} == {1, 2, 3}, "the drained one takes none"
        await s.archive.checkpoint(at=s.clock.now())
        verified = await verify_stores(s.bundle(), "default")
        assert sum(one.runs for one in verified.values()) == RUNS + 40
        assert [one.damaged for one in verified.values()] == [()] * 4


async def test_runs_that_were_begun_before_a_shard_was_added_go_on(tmp_path: Path) -> None:
    async with sharded(tmp_path, 2, clock=SystemClock()) as s, team(model(), stores=s.bundle(), scope="none") as app:
        begun = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(12)]
    async with sharded(tmp_path, 3, clock=SystemClock()) as s, team(model(), stores=s.bundle(), scope="all") as app:
        for run in begun:
            assert (await app.result(run)).status == "succeeded"
        assert len(await listed(s, 5)) == 12


async def test_a_shard_that_is_away_stops_nobody_else_and_its_runs_go_on_when_it_is_back(tmp_path: Path) -> None:
    async with sharded(tmp_path, clock=SystemClock()) as s:
        stores = s.bundle()
        async with team(model(), stores=stores, scope="none") as app:
            begun = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(18)]
        there, gone = [r for r in begun if shard_of(r) != 2], [r for r in begun if shard_of(r) == 2]
        assert there
        assert gone
        s.lines[2].is_cut = True
        async with team(model(), stores=stores, scope="all") as app:
            for run in there:
                assert (await app.result(run)).status == "succeeded"
            with pytest.raises(StoreUnavailable, match="shard 2"):
                await app.runs()
            with pytest.raises(StoreUnavailable, match="shard 2"):
                await app.state(gone[0])
            new = await finish(app, 20)
            assert {shard_of(run) for run in new} == {0, 1}, "nothing new is placed where nobody answers"
            s.lines[2].is_cut = False
            async with asyncio.timeout(DEFAULT_RULES.hide_s / 2):  # nobody waits for the end of a claim
                for run in gone:
                    assert (await app.result(run)).status == "succeeded"
            assert len(await app.runs(HeadQuery(tenant="default", limit=100))) == len(begun) + len(new)


async def test_a_shard_that_goes_away_in_the_middle_of_work_takes_nothing_with_it(tmp_path: Path) -> None:
    async with sharded(tmp_path, clock=SystemClock()) as s:
        async with team(model(), stores=s.bundle(), scope="all") as app:
            runs = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(30)]
            s.lines[1].is_cut = True
            for run in runs:
                if shard_of(run) != 1:
                    assert (await app.result(run)).status == "succeeded"
            s.lines[1].is_cut = False

            async def all_ended() -> bool:
                return not await s.stores[1].journal.heads(HeadQuery(statuses=LIVE))

            await eventually(all_ended)
            reports = [await app.result(run) for run in runs]
            assert {report.status for report in reports} == {"succeeded"}
        for run in runs:
            events = await s.journal.read(run)
            assert [event.type for event in events].count("run.finished") == 1
            assert await s.archive.verify(run) is None


class Mourning(MemoryPresence):
    """Takes one worker for dead until it is withdrawn."""

    async def dead(self) -> tuple[str, ...]:
        return () if DEAD in self.withdrawn else (DEAD,)

    async def withdraw(self, worker: str) -> None:
        self.withdrawn.add(worker)
        await super().withdraw(worker)

    def __init__(self) -> None:
        super().__init__()
        self.withdrawn: set[str] = set()


async def test_a_dead_worker_is_mourned_until_every_shard_has_answered(tmp_path: Path) -> None:
    presence = Mourning()
    ids = Ids(lambda: 1)
    async with sharded(tmp_path, clock=SystemClock()) as s:
        stores = replace(s.bundle(), presence=presence)
        async with team(model(), stores=stores, scope="none") as app:
            runs = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(12)]
            for run in runs:
                started = TaskStarted(worker=DEAD, agent="operator", agent_version="1", model="scripted")
                at = s.clock.now()
                draft = Draft(id=ids.new("evt"), tenant="default", at=at, body=started, task="do", attempt=1)
                head, fence = HeadChange(status="running", wake_at=None), Fence(task="do", attempt=1)
                await s.journal.append(run, [draft], fence=fence, head=head).durable()
        there, gone = [r for r in runs if shard_of(r) != 2], [r for r in runs if shard_of(r) == 2]
        assert gone
        s.lines[2].is_cut = True
        async with team(model(), stores=stores, scope="all") as app:
            for run in there:
                assert (await app.result(run)).status == "succeeded"
            assert presence.withdrawn == set(), "what it has in the shard that is away is not known"
            s.lines[2].is_cut = False
            for run in gone:
                assert (await app.result(run)).status == "succeeded"
            await eventually(lambda: _has(presence.withdrawn, DEAD))


async def _has(where: set[str], what: str) -> bool:
    return what in where


async def test_what_cannot_be_done_in_one_shard_keeps_nobody_from_the_next_chore(tmp_path: Path) -> None:
    done: list[str] = []

    async def look_at_shard_1() -> None:
        raise StoreUnavailable("shard 1 is away", shard=1)

    async def look_at_all() -> None:
        raise StoreUnavailable("the store is away")

    async def note() -> None:
        done.append("done")

    async with sharded(tmp_path, clock=SystemClock()) as s, team(model(), stores=s.bundle(), scope="all") as app:
        app._duty._chores = (look_at_shard_1, note)
        await eventually(lambda: _has(set(done), "done"))
        app._duty._chores = (look_at_all, note)
        looked = len(done) + 1  # one round may be under way
        run = await app.submit("goal", plan=ONE)
        assert (await run.result()).status == "succeeded"
        assert len(done) <= looked


async def test_a_fork_may_live_in_another_shard_than_its_parent(tmp_path: Path) -> None:
    async with sharded(tmp_path, clock=SystemClock()) as s, team(model(), stores=s.bundle()) as app:
        run = await app.submit("x", plan=ONE)
        await run.result()
        forks = [await app.fork(run.id, at=4) for _ in range(12)]
        assert {shard_of(fork.id) for fork in forks} == {0, 1, 2}
        for fork in forks:
            assert (await fork.result()).status == "succeeded"
            assert fork.id in {head.run for head in await s.stores[shard_of(fork.id)].journal.heads(HeadQuery())}
