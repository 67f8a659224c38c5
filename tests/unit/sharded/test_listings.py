"""Lists over shards are one list: in order, complete, and stable while runs are added."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.adapters.memory.journal import MemoryJournal
from collegium.domain.errors import StoreUnavailable
from collegium.domain.event import Event
from collegium.domain.head import HeadChange, HeadQuery, RunStatus
from collegium.domain.ids import Ids
from collegium.ports import Journal
from collegium.runtime.heads import heads_of
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import NOW, begin, eventually, noted, submitted
from tests.unit.sharded.stores import Sharded, sharded

# Each run: shard, status, wake-up in seconds; many wake up at the same moment.
RUNS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(("running", "waiting", "failed")),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=14,
)


async def put(journal: Journal, run: str, status: RunStatus, wake_s: int | None) -> None:
    wake_at = None if wake_s is None else NOW + timedelta(seconds=wake_s)
    await journal.append(run, [submitted()], expected=0, head=HeadChange(status=status, wake_at=wake_at)).durable()


@settings(max_examples=25, deadline=None)
@given(first=RUNS, later=RUNS, limit=st.integers(1, 7))
def test_pages_are_the_list_and_what_comes_meanwhile_changes_nothing_of_it(
    first: list[tuple[int, RunStatus, int | None]], later: list[tuple[int, RunStatus, int | None]], limit: int
) -> None:
    async def check() -> None:
        ids, model = Ids(lambda: 1), MemoryJournal()
        with tempfile.TemporaryDirectory() as folder:
            async with sharded(Path(folder)) as s:
                for shard, status, wake_s in first:
                    run = ids.run(shard)
                    for journal in (s.journal, model):
                        await put(journal, run, status, wake_s)
                for query in (
                    HeadQuery(tenant="acme", limit=limit),
                    HeadQuery(tenant="acme", statuses=frozenset({"running", "failed"}), limit=limit),
                    HeadQuery(due_before=NOW + timedelta(seconds=2), limit=limit),
                ):
                    every = HeadQuery(tenant=query.tenant, statuses=query.statuses, due_before=query.due_before)
                    wanted = [head.run for head in await model.heads(every)]
                    assert [head.run for head in await s.journal.heads(every)] == wanted
                    found, waiting = [], list(later)
                    async for head in heads_of(s.journal, query):
                        found.append(head.run)
                        if waiting:  # a new run between any two heads
                            shard, status, wake_s = waiting.pop()
                            await put(s.journal, ids.run(shard), status, wake_s)
                    assert [run for run in found if run in wanted] == wanted
                    assert len(set(found)) == len(found)
                    if query.due_before is None:
                        assert found == wanted, "new runs come before the first page"
                    model = await copied(s)

    asyncio.run(check())


async def copied(s: Sharded) -> MemoryJournal:
    """The same runs in one journal."""
    model = MemoryJournal()
    for store in s.stores:
        for head in await store.journal.heads(HeadQuery(limit=10_000)):
            change = HeadChange(status=head.status, wake_at=head.wake_at)
            await model.append(head.run, [submitted()], expected=0, head=change).durable()
    return model


async def test_a_page_of_due_runs_goes_on_where_the_one_before_ended_wherever_that_run_is_now(tmp_path: Path) -> None:
    ids = Ids(lambda: 1)
    async with sharded(tmp_path) as s:
        runs = [ids.run(n % 3) for n in range(6)]
        for n, run in enumerate(runs):
            await put(s.journal, run, "running", n)
        query = HeadQuery(due_before=NOW + timedelta(seconds=9), limit=2)
        seen = []
        async for head in heads_of(s.journal, query):
            seen.append(head.run)
            later = HeadChange(status="running", wake_at=NOW + timedelta(seconds=8, microseconds=len(seen)))
            if seen.count(head.run) == 1:
                await s.journal.append(head.run, [submitted()], head=later).durable()
        assert seen[:6] == runs, "none is passed over although those before it have moved behind it"
        assert set(seen[6:]) <= set(runs)


async def test_a_cursor_without_its_moment_still_finds_its_place(tmp_path: Path) -> None:
    ids = Ids(lambda: 1)
    async with sharded(tmp_path) as s:
        runs = [ids.run(n % 3) for n in range(6)]
        for n, run in enumerate(runs):
            await put(s.journal, run, "running", n)
        soon = NOW + timedelta(seconds=9)
        page = await s.journal.heads(HeadQuery(due_before=soon, after=runs[2], limit=2))
        assert [head.run for head in page] == runs[3:5]
        await s.journal.append(runs[2], [submitted()], head=HeadChange(status="running", wake_at=None)).durable()
        page = await s.journal.heads(HeadQuery(due_before=soon, after=runs[2], limit=2))
        assert [head.run for head in page] == runs[:2], "no longer due: it begins again"


async def test_a_list_says_that_a_shard_is_away_and_a_sweep_goes_on_without_it(tmp_path: Path) -> None:
    ids, clock = Ids(lambda: 1), FakeClock()
    async with sharded(tmp_path, clock=clock) as s:
        runs = [ids.run(n % 3) for n in range(6)]
        for run in runs:
            await put(s.journal, run, "running", 0)
        s.lines[1].is_cut = True
        due = HeadQuery(due_before=NOW, may_lack=True)
        for query in (HeadQuery(tenant="acme"), HeadQuery(worker="wrk_1"), HeadQuery(due_before=NOW)):
            with pytest.raises(StoreUnavailable, match="shard 1") as caught:
                await s.journal.heads(query)
            assert caught.value.fields["shard"] == 1
        assert [head.run for head in await s.journal.heads(due)] == [r for n, r in enumerate(runs) if n % 3 != 1]
        with pytest.raises(StoreUnavailable, match="shard 1"):
            await s.journal.read(runs[1])
        with pytest.raises(StoreUnavailable, match="shard 1"):
            await s.journal.append(runs[1], [noted(1)]).durable()
        await s.journal.append(runs[0], [noted(1)]).durable()
        s.lines[1].is_cut = False
        assert s.shards.is_away(1)
        await clock.advance(1.0)
        await eventually(lambda: is_back(s))
        assert {head.run for head in await s.journal.heads(due)} == set(runs)
        assert len(await s.journal.heads(HeadQuery(tenant="acme"))) == 6
        s.lines[0].is_cut = True
        with pytest.raises(StoreUnavailable) as caught:
            await s.journal.heads(due)
        assert "shard" not in caught.value.fields, "without the catalogue nothing goes"


async def is_back(s: Sharded) -> bool:
    return not s.shards.is_away(1)


async def test_a_scan_comes_through_all_shards_with_one_cursor_and_waits_for_one_that_is_away(tmp_path: Path) -> None:
    ids = Ids(lambda: 1)
    async with sharded(tmp_path) as s:
        for n in range(9):
            await begin(s.journal, ids.run(0 if n == 0 else 1 + n % 2), notes=n)
        for limit in (1, 2, 3, 7, 1_000):
            cursor = ""
            seen: list[Event] = []
            while page := (await s.journal.scan(cursor, limit))[0]:
                _, cursor = await s.journal.scan(cursor, limit)
                assert len(page) <= limit
                seen += page
            assert len(seen) == len({event.id for event in seen}) == 9 + sum(range(9))
        assert await s.journal.scan("", 0) == ((), "")
        whole, cursor = await s.journal.scan()
        s.lines[2].is_cut = True
        run = ids.run(1)
        await begin(s.journal, run)
        (event,), cursor = await s.journal.scan(cursor)
        assert event.run == run
        with pytest.raises(StoreUnavailable, match="shard 2"):
            await s.journal.scan(cursor)
        s.lines[2].is_cut = False
        assert (await s.journal.scan(cursor))[0] == ()
        assert len(whole) == 9 + sum(range(9))
