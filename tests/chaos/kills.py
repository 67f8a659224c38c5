"""Trials that end and stop processes at moments of their choosing."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection

from collegium.domain.errors import UsageError
from collegium.wiring import open_collegium
from tests.chaos import goals
from tests.chaos.far_side import chaos_tools
from tests.chaos.fleet import LEAST_IN_FLIGHT, Fleet, fleet
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Child, Place, start

AT_ONCE = 4


async def uniform(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of one of two workers, at moments uniform in time."""
    async with fleet(place, outcome) as team:
        for _ in range(kills):
            await team.ready()
            await asyncio.sleep(team.rng.uniform(0.8, 1.6))
            await team.top_up(LEAST_IN_FLIGHT + 6)
            await _replace(team, team.rng.choice(list(team.workers)))
        await team.end()


async def aimed(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of the worker that has just written an intent: before, in or right after its call."""
    async with fleet(place, outcome) as team:
        for _ in range(kills):
            await asyncio.sleep(team.rng.uniform(0.3, 1.2))
            await team.ready()
            await team.top_up()
            worker = await team.intent()
            await asyncio.sleep(team.rng.uniform(0.0, 0.12))
            await _replace(team, worker)
        await team.end()


async def both(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of all workers at once, then two new ones: a machine that went down and came back."""
    async with fleet(place, outcome) as team:
        while outcome.kills < kills:
            await team.ready()
            await asyncio.sleep(team.rng.uniform(0.8, 1.6))
            await team.top_up(LEAST_IN_FLIGHT + 6)
            for worker in list(team.workers):
                team.kill(worker)
            await team.hire(2)
        await team.end()


async def paused(place: Place, outcome: Outcome, pauses: int) -> None:
    """SIGSTOP past the lease, take-over, SIGCONT; every other one between an intent and its call's end."""
    async with fleet(place, outcome) as team:
        while outcome.pauses < pauses:
            await team.ready()
            if outcome.pauses % 2:
                worker = await team.intent()
            else:
                await asyncio.sleep(team.rng.uniform(0.0, 0.5))
                worker = team.rng.choice(list(team.workers))
            await team.pause(worker)
        await team.end()


async def _replace(team: Fleet, worker: str) -> None:
    team.kill(worker)
    await team.hire()


async def submitter(place: Place, outcome: Outcome, kills: int) -> None:
    """SIGKILL of a process that submits; the next one submits again whatever was not acknowledged, under its keys."""
    async with fleet(place, outcome, slow_s=(0.0, 0.02)) as team:
        first = 0
        for _ in range(kills):
            child = start(submit_for_ever, team.place, outcome.seed, first)
            assert await child.told() == "ready"
            await asyncio.sleep(team.rng.uniform(0.05, 0.2))
            child.kill()
            outcome.kills += 1
            first = _take(child, team, outcome, first)
        await _check_other_body(team, outcome)
        await team.end()


def submit_for_ever(place: Place, seed: int, first: int, told: Connection) -> None:
    """Submits one run after the other from number ``first`` on, several at once; tells number and id of each."""
    kinds = list(goals.KINDS)

    async def main() -> None:
        async with open_collegium(place.settings, scope="none", model=place.model, tools=chaos_tools(place.far)) as app:
            told.send("ready")

            async def lane(number: int) -> None:
                while True:
                    tag, kind = f"s{seed}-{number}", kinds[number % len(kinds)]
                    plan = goals.plan(tag, kind)
                    run = await app.submit(goals.goal(tag, kind), plan=plan, model=place.model, idempotency_key=tag)
                    told.send((number, run.id))
                    number += AT_ONCE

            await asyncio.gather(*(lane(first + n) for n in range(AT_ONCE)))

    asyncio.run(main())


def _take(child: Child, team: Fleet, outcome: Outcome, first: int) -> int:
    """Notes what the dead submitter had acknowledged; gives the first number that it had not."""
    kinds = list(goals.KINDS)
    acknowledged = dict(child.last_words)
    for number, run in acknowledged.items():
        team.accepted[run] = (f"s{outcome.seed}-{number}", kinds[number % len(kinds)])
    while first in acknowledged:
        first += 1
    outcome.note("submits tried again", AT_ONCE)
    return first


async def _check_other_body(team: Fleet, outcome: Outcome) -> None:
    tag = next(iter(team.accepted.values()))[0]
    try:
        await team.app.submit("Something else", model=team.place.model, idempotency_key=tag)
    except UsageError:
        return
    outcome.wrong("duplicated", f"the key {tag} was taken for another goal")
