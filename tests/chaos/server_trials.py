"""Trials in which what lies under a fleet fails: Redis emptied, PostgreSQL crashed, servers away, cables out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace

from collegium.testing.servers import Server, postgres_server, redis_server
from tests.chaos.fleet import LEAST_IN_FLIGHT, Fleet, fleet, until
from tests.chaos.hosts import Host, HostModel, HostWorker, NoHosts, free_port
from tests.chaos.outcome import Outcome
from tests.chaos.processes import LEASE_S, Place

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


async def hosts(place: Place, outcome: Outcome, rounds: int) -> None:
    """Three workers on three hosts: one is cut off, one killed, the servers fail meanwhile; then all is mended."""
    with ExitStack() as stack:
        try:
            three = [_host(stack) for _ in range(3)]
        except NoHosts as error:
            outcome.note(f"trials left out: {error}")
            return
        postgres, redis = (stack.enter_context(make(host="*")) for make in (postgres_server, redis_server))
        port = free_port()
        place = replace(
            place,
            postgres=postgres.url,
            redis=redis.url,
            model=f"openai-compatible:chaos@http://127.0.0.1:{port}/v1",
        )
        place.folder.mkdir(parents=True, exist_ok=True)
        for host in three:
            stack.callback(HostModel(host, port, place.model_log, (0.05, 0.4)).kill)
        async with fleet(place, outcome, workers=0) as team:
            await team.take_in([HostWorker(host, team.place) for host in three])
            for number in range(rounds):
                await team.ready()
                await _cut_and_kill(team, three[number % 3], three[(number + 1) % 3])
                mishap = MISHAPS[(number + outcome.seed) % len(MISHAPS)]
                await mishap(postgres, redis)
                outcome.note(f"times that {(mishap.__doc__ or '').rstrip('.')}")
                three[number % 3].join()
                await team.take_in([HostWorker(three[(number + 1) % 3], team.place)])
            await team.end()


def _host(stack: ExitStack) -> Host:
    host = Host()
    stack.callback(host.remove)
    return host


async def _cut_and_kill(team: Fleet, cut: Host, killed: Host) -> None:
    """Cuts one host off until others have its tasks, and kills the worker of another meanwhile."""
    names = {child.host.name: name for name, child in team.workers.items() if isinstance(child, HostWorker)}
    lost = names[cut.name]
    cut.cut()
    team.kill(names[killed.name])
    await until(lambda: team.held_by(lost) == 0, "what the lost host held is taken over", timeout_s=30 * LEASE_S)
    team.outcome.note("hosts that were cut off until all they held was taken over")


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
