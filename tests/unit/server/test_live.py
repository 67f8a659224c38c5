"""What happens is told while it happens: each event once, in order, to all who look on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.errors import NotAllowed, NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.message import Message
from collegium.domain.principal import Principal, local
from collegium.server.access.live import LiveAccess
from collegium.server.live.change import Change, RunChange
from collegium.server.live.hub import Hub
from collegium.testing.harness import memory_stores, own_bus, team
from tests.unit.stores.moved import working

SOON_S = 20.0


async def collected(events: AsyncIterator[Event]) -> list[int]:
    async with asyncio.timeout(SOON_S):
        return [event.seq async for event in events]


async def test_a_run_is_followed_from_any_place_to_its_end():
    async with team(working()) as app:
        run = await app.submit("Do both.")
        live = LiveAccess(Hub(app), local("default"))
        everything = await collected(live.follow(run.id))
        assert everything == list(range(1, everything[-1] + 1))
        assert (await app.stores.journal.read(run.id))[-1].seq == everything[-1]
        assert await collected(live.follow(run.id, after=3)) == everything[3:]
        assert await collected(live.follow(run.id, after=everything[-1])) == []
