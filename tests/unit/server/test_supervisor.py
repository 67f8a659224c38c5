"""Worker processes are kept running; how they are told, heard and ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from collegium.adapters.leash import WorkOrder
from collegium.adapters.supervisor import FIRST_S, MOST_S, STEADY_S, Supervisor, told
from collegium.telemetry import RESTARTS, RUNS
from collegium.testing.clock import FakeClock

READY = """
import json, os, signal, sys, time
order = json.loads(sys.stdin.readline())
word = {"state": "ready", "worker": order["name"], "readings": [{"name": "collegium_runs_total", "labels": ["failed"],
        "value": 2}]}
print(json.dumps(word), flush=True)
"""
STAYS = READY + "sys.stdin.read()\n"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAYS


@asynccontextmanager
async def supervisor(
    script: str, count: int = 1, changed: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Supervisor, FakeClock]]:
    clock = FakeClock()
    made = Supervisor(
        lambda name: WorkOrder(name=name, settings={}),
        count=count,
        clock=clock,
        random=lambda: 0.5,
        command=(sys.executable, "-c", script),
        changed=changed,
    )
    made.start()
    try:
        yield made, clock
    finally:
        made.kill()
        await made.end(30)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - other processes are waited for
            await asyncio.sleep(0.01)


def restarts(made: Supervisor) -> float:
    return sum(one.value for one in made.readings() if one.name == RESTARTS.name)


async def test_each_worker_is_told_its_name_and_heard() -> None:
    changes: list[int] = []
    async with supervisor(STAYS, 3, lambda: changes.append(1)) as (made, _):
        await until(lambda: all(hand.is_ready for hand in made.hands))
        assert [hand.word.worker for hand in made.hands] == ["worker-1", "worker-2", "worker-3"]
        assert sum(one.value for one in made.readings() if one.name == RUNS.name) == 6
        assert len(changes) == 3
        assert await made.end(30)
        assert not any(hand.is_ready for hand in made.hands)


async def test_a_worker_that_ends_is_started_again_later_each_time() -> None:
    async with supervisor(READY + "os._exit(3)\n") as (made, clock):
        pause_s = FIRST_S
        for start in range(1, 9):
            await until(lambda: made.hands[0].starts == start and restarts(made) == start)  # noqa: B023 - awaited here
            assert "ended with 3" in told(made.hands)
            await clock.advance(pause_s * 0.99)
            assert made.hands[0].starts == start
            await clock.advance(pause_s * 0.02)
            pause_s = min(MOST_S, 2 * pause_s)
        assert pause_s == MOST_S
        # What all of them have counted stays counted.
        assert sum(one.value for one in made.readings() if one.name == RUNS.name) >= 16


async def test_one_that_failed_is_started_again_though_it_ended_in_good_order() -> None:
    async with supervisor(READY.replace('"ready"', '"failed"') + "sys.exit(1)\n") as (made, clock):
        await until(lambda: restarts(made) == 1)
        await clock.advance(FIRST_S)
        await until(lambda: made.hands[0].starts == 2)


async def test_one_that_has_run_for_long_comes_again_soon() -> None:
    async with supervisor(STAYS) as (made, clock):
        hand = made.hands[0]
        for start in (1, 2, 3):
            await until(lambda: hand.starts == start and hand.is_ready)  # noqa: B023 - awaited here
            await clock.advance(STEADY_S)
            assert hand.process is not None
            os.kill(hand.process.pid, 9)
            await until(lambda: restarts(made) == start)  # noqa: B023 - awaited here
            assert "signal 9" in str(hand)
            await clock.advance(FIRST_S)


@pytest.mark.parametrize("script", [READY + "sys.exit(0)\n", READY.replace('"ready"', '"draining"') + "sys.exit(1)\n"])
async def test_a_worker_that_was_drained_is_not_started_again(script: str) -> None:
    async with supervisor(script) as (made, clock):
        await until(lambda: made.hands[0].is_over)
        await clock.advance(10 * MOST_S)
        assert made.hands[0].starts == 1
        assert told(made.hands) == "worker-1 was drained"
        assert await made.end(30)


async def test_one_that_hears_no_signal_is_killed_in_the_end() -> None:
    async with supervisor(DEAF) as (made, _):
        await until(lambda: made.hands[0].is_ready)
        assert not await made.end(0.05)


async def test_an_end_does_not_wait_for_one_that_is_to_be_started_again() -> None:
    async with supervisor(READY + "os._exit(3)\n") as (made, _):
        await until(lambda: restarts(made) == 1)
        assert await made.end(30)
        assert made.hands[0].starts == 1


async def test_garbage_and_endless_lines_are_left_out() -> None:
    script = (
        READY.replace("print(", "print('no json', flush=True); print('x' * 3_000_000); print(") + "sys.stdin.read()\n"
    )
    async with supervisor(script) as (made, _):
        await until(lambda: made.hands[0].is_ready)


async def test_a_program_that_is_not_there_is_tried_again() -> None:
    clock = FakeClock()
    made = Supervisor(
        lambda name: WorkOrder(name=name, settings={}),
        count=1,
        clock=clock,
        random=lambda: 0.5,
        command=("/no/such/program",),
    )
    made.start()
    await until(lambda: restarts(made) == 1)
    assert "could not be started" in told(made.hands)
    await clock.advance(FIRST_S)
    await until(lambda: restarts(made) == 2)
    assert await made.end(30)
