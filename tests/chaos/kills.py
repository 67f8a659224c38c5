"""Trials that end and stop worker processes at moments of their choosing."""

from __future__ import annotations

import asyncio

from tests.chaos.fleet import Fleet, fleet
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Place


async def uniform(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of one of two workers, at moments uniform in time."""
    async with fleet(place, outcome) as team:
        for _ in range(kills):
            await team.ready()
            await asyncio.sleep(team.rng.uniform(0.5, 1.5))
            await _replace(team, team.rng.choice(list(team.workers)))
        await team.settle()
        await team.judge()


async def aimed(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of the worker that has just written an intent: before, in or right after its call."""
    async with fleet(place, outcome) as team:
        for _ in range(kills):
            await team.ready()
            worker = await team.intent()
            await asyncio.sleep(team.rng.uniform(0.0, 0.12))
            await _replace(team, worker)
        await team.settle()
        await team.judge()


async def _replace(team: Fleet, worker: str) -> None:
    await team.top_up(20)
    team.kill(worker)
    await team.hire()
