"""Work goes on while Redis is away, and comes back to it."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.stand_in_bus import StandInBus
from collegium.domain.errors import StoreError
from collegium.testing.conformance.bus import message
from collegium.testing.servers import Server, redis_server


@asynccontextmanager
async def opened(server: Server):
    connection = RedisConnection(server.url, patience_s=1.0)
    bus = RedisBus(connection, SystemClock(), prefix="clg:test:1:")
    yield StandInBus(bus, MemoryBus(SystemClock()))
    await bus.aclose()
    await connection.aclose()


async def test_work_is_passed_on_inside_the_process_while_redis_is_away() -> None:
    with redis_server() as server:
        async with opened(server) as bus:
            await bus.publish(message("before"))
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await asyncio.to_thread(server.stop)
            await bus.settle(claim)
            assert await bus.publish(message("meanwhile")) == 1
            assert await bus.wait(["tasks.a"], 5.0)
            (here,) = await bus.claim(["tasks.a"], "workers")
            assert here.message.id == "meanwhile"
            await bus.settle(here)
            assert await bus.claim(["tasks.a"], "workers") == ()
            with pytest.raises(StoreError, match="redis://"):
                await bus.publish(message("news", "news.a"))


async def test_what_comes_back_is_used_again() -> None:
    with redis_server() as server:
        async with opened(server) as bus:
            await bus.publish(message("before"))
            await asyncio.to_thread(server.stop)
            await bus.publish(message("meanwhile"))
            await asyncio.to_thread(server.start)
            seen: set[str] = set()
            async with asyncio.timeout(20):
                while len(seen) < 3:
                    if "after" not in seen and "meanwhile" in seen:
                        await bus.publish(message("after"))
                    for claim in await bus.claim(["tasks.a"], "workers", 5):
                        seen.add(claim.message.id)
                        await bus.settle(claim)
                    await bus.wait(["tasks.a"], 0.2)
            assert seen == {"before", "meanwhile", "after"}
            assert await bus.depth(["tasks.a"]) == 0
