"""Trials in which the servers under a fleet fail: Redis is emptied, PostgreSQL crashes, both are away for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

from collegium.testing.servers import Server, postgres_server, redis_server
from tests.chaos.fleet import LEAST_IN_FLIGHT, fleet
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Place

AWAY_S = 3.0
Mishap = Callable[[Server, Server], Awaitable[None]]


async def servers(place: Place, outcome: Outcome, rounds: int) -> None:
    """Each round one server fails in one way while runs go on; every other round a worker is killed as well."""
    with postgres_server() as postgres, redis_server() as redis:
        place = replace(place, postgres=postgres.url, redis=redis.url)
        async with fleet(place, outcome) as team:
            for number in range(rounds):
                await team.ready()
                mishap = MISHAPS[(number + outcome.seed) % len(MISHAPS)]
                await mishap(postgres, redis)
                outcome.note(f"times that {(mishap.__doc__ or '').rstrip('.')}")
                if number % 2:
                    await asyncio.sleep(team.rng.uniform(0.2, 1.0))
                    team.kill(team.rng.choice(list(team.workers)))
                    await team.hire()
                await team.top_up(LEAST_IN_FLIGHT)
            await team.end()


async def flush_redis(_: Server, redis: Server) -> None:
    """Redis was emptied."""
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")


async def crash_redis(_: Server, redis: Server) -> None:
    """Redis crashed and came back."""
    await asyncio.to_thread(redis.crash)
    await asyncio.to_thread(redis.start)


async def stop_redis(_: Server, redis: Server) -> None:
    """Redis was away for some seconds."""
    await asyncio.to_thread(redis.stop)
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(redis.start)


async def crash_postgres(postgres: Server, _: Server) -> None:
    """PostgreSQL crashed and recovered."""
    await asyncio.to_thread(postgres.crash)
    await asyncio.to_thread(postgres.start)


async def stop_postgres(postgres: Server, _: Server) -> None:
    """PostgreSQL was away for some seconds."""
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(postgres.start)


async def pause_both(postgres: Server, redis: Server) -> None:
    """both servers stood still for some seconds."""
    postgres.pause()
    redis.pause()
    await asyncio.sleep(AWAY_S)
    redis.go_on()
    postgres.go_on()


MISHAPS: tuple[Mishap, ...] = (flush_redis, crash_postgres, stop_redis, stop_postgres, crash_redis, pause_both)
