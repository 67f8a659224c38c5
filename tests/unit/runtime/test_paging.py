"""What is read page by page comes whole, in order and once, wherever a page ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from collegium.domain.head import LIVE, HeadQuery
from collegium.runtime import history
from collegium.runtime.heads import heads_of
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.plans import ONE


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
async def test_heads(limit: int) -> None:
    clock = FakeClock()
    stores = memory_stores(clock)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        runs = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(6)]
        await app.cancel(runs[2])
        soon = clock.now() + timedelta(hours=1)
        for query, wanted in (
            (HeadQuery(tenant="default"), runs),
            (HeadQuery(tenant="default", statuses=LIVE), [r for r in runs if r != runs[2]]),
            (HeadQuery(due_before=soon), [r for r in runs if r != runs[2]]),
            (HeadQuery(tenant="nobody"), []),
        ):
            whole = await stores.journal.heads(query)
            assert sorted(h.run for h in whole) == sorted(wanted)
            paged = HeadQuery(tenant=query.tenant, statuses=query.statuses, due_before=query.due_before, limit=limit)
            assert [h async for h in heads_of(stores.journal, paged)] == list(whole)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_events_of_a_fork_and_of_its_parents(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = memory_stores(FakeClock())
    async with team(ScriptedModel([Step(reply="Done.", times=None)]), stores=stores) as app:
        run = await app.submit("x", plan=ONE)
        await run.result()
        one = await app.fork(run.id, at=4)
        await one.result()
        two = await app.fork(one.id, at=2)
        await two.result()
    whole = [e for page in [page async for page in history.past(stores.journal, two.id)] for e in page]
    own = await stores.journal.read(two.id)
    monkeypatch.setattr(history, "PAGE", size)
    pages = [page async for page in history.past(stores.journal, two.id)]
    assert max(map(len, pages)) <= size
    assert [e for page in pages for e in page] == whole
    assert [(e.run, e.seq) for e in whole][:6] == [(run.id, n) for n in range(1, 5)] + [(one.id, 1), (one.id, 2)]
    assert tuple([e async for page in history.own(stores.journal, two.id) for e in page]) == own == tuple(whole[6:])
