"""Waiting for news of a run."""

from __future__ import annotations

import asyncio

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain import body as b
from collegium.domain.goal import Goal
from collegium.domain.ids import Ids
from collegium.runtime.scheduler import Scheduler
from collegium.testing.harness import memory_stores


async def test_a_cancellation_that_comes_together_with_the_news_is_not_lost() -> None:
    clock, ids = SystemClock(), Ids(lambda: 1)
    stores = memory_stores(clock)
    scheduler = Scheduler(stores.journal, stores.bus, clock=clock, ids=ids)
    run = ids.run()
    state = await scheduler.submit(run, "default", b.RunSubmitted(goal=Goal(text="x", model="m", principal="p")))
    waiting = asyncio.ensure_future(scheduler.changed(run, 60))
    await asyncio.sleep(0)
    (news,) = scheduler._changed[run]
    news.set_result(state)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
