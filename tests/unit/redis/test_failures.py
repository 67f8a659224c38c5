"""Redis that is away, comes back, has no memory left, stands still, forgets everything, or is something else."""

import asyncio
import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.redis.cache import RedisCache
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.redis.directory import RedisDirectory
from collegium.adapters.redis.quota import RedisQuota
from collegium.domain.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable, UsageError
from collegium.domain.message import Message
from collegium.domain.rate import per_minute
from collegium.testing.servers import MissingServer, redis_server

PATIENCE_S = 30.0


@pytest.fixture
def own():
    """A server that this test may stop, with ``own(*settings)``."""
    with ExitStack() as stack:

        def start(*settings):
            try:
                return stack.enter_context(redis_server(settings=settings))
            except MissingServer as error:
                pytest.skip(str(error))

        yield start


def task(id_, topic="tasks.a", **body):
    return Message(id=id_, topic=topic, tenant="acme", body=body)


async def until(attempt):
    """What ``attempt`` returns once it raises no ``StoreUnavailable`` any more and is not empty."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if found := await attempt():
                return found
        except StoreUnavailable:
            pass
        assert time.monotonic() < deadline, "it never came back"
        await asyncio.sleep(0.01)


async def test_away_at_start(own, open_bus):
    server = own()
    server.stop()
    bus = open_bus(server.url, SystemClock())
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=f"redis://127.0.0.1:{server.port}/0 cannot be used now"):
            await bus.publish(task("m"))
    with pytest.raises(StoreUnavailable):
        await bus.claim(["tasks.a"], "workers")
    await bus.wait(["tasks.a"], 0)
    assert not await bus.wait(["tasks.a"], 0)
    waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 60))
    server.start()
    await until(lambda: bus.publish(task("m2")))
    assert await asyncio.wait_for(waiter, PATIENCE_S)
    (claim,) = await bus.claim(["tasks.a"], "workers")
    assert claim.message.id == "m2"


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_it_comes_back_with_its_data(own, open_bus, end):
    server = own()
    bus, other = open_bus(server.url, SystemClock()), open_bus(server.url, SystemClock())
    await bus.publish(*(task(f"m{n}", n=n) for n in range(50)))
    await bus.publish(*(task(f"r{n}", "runs.1", n=n) for n in range(50)))
    (held,) = await bus.claim(["tasks.a"], "workers")
    read = await bus.read("runs.1")
    assert not await other.read("runs.2")
    waiter = asyncio.ensure_future(other.wait(["runs.2"], 60))
    getattr(server, end)()
    with pytest.raises(StoreUnavailable):
        await bus.claim(["tasks.a"], "workers")
    server.start()
    assert await until(lambda: bus.read("runs.1")) == read
    await bus.settle(held)
    # A lost subscription counts as news: something may have been published meanwhile.
    assert await asyncio.wait_for(waiter, PATIENCE_S)
    rest = await bus.claim(["tasks.a"], "workers", 100)
    assert [claim.message.id for claim in rest] == [f"m{n}" for n in range(1, 50)]
    # It wakes again as before.
    await other.read("runs.2")
    waiter = asyncio.ensure_future(other.wait(["runs.2"], 60))
    await bus.publish(task("r", "runs.2"))
    assert await asyncio.wait_for(waiter, PATIENCE_S)


async def test_nothing_is_sent_to_a_server_that_has_gone_since(own, open_bus):
    server = own()
    bus = open_bus(server.url, SystemClock())
    await bus.publish(task("m"))
    server.stop()
    server.start()
    for _ in range(5):
        await asyncio.sleep(0)  # the loop hears that the connection was closed
    assert await bus.depth(["tasks.a"]) == 1


async def test_no_memory_left(own, open_bus, connect):
    server = own("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    bus = open_bus(server.url, SystemClock())
    assert await bus.claim(["tasks.a"], "workers") == ()
    count = 0

    async def fill():
        nonlocal count
        while count < 10_000:
            await bus.publish(task(f"m{count}", text="x" * 4_000))
            count += 1

    with pytest.raises(StoreFull, match=r"no memory left \(maxmemory\)") as caught:
        await fill()
    assert caught.value.retryable
    assert count > 50
    cache = RedisCache(connect(server.url), SystemClock(), prefix="clg:cache:")
    with pytest.raises(StoreFull):
        await cache.put("a", b"x" * 100_000, ttl_s=10)
    # What waits is worked off all the same, and then there is room again.
    done = []
    while claims := await bus.claim(["tasks.a"], "workers", 10):
        for claim in claims:
            await bus.settle(claim)
            done.append(claim.message.id)
    assert done == [f"m{n}" for n in range(count)]
    assert await until(lambda: bus.publish(task("more", text="x" * 4_000)))


async def test_it_stands_still(own, open_bus):
    server = own()
    bus = open_bus(server.url, SystemClock(), patience_s=0.3)
    await bus.publish(task("m"))
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await bus.claim(["tasks.a"], "workers")
        results = await asyncio.gather(
            *(bus.publish(task(f"n{n}")) for n in range(100)), bus.depth(["tasks.a"]), return_exceptions=True
        )
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert time.monotonic() - began < PATIENCE_S
    finally:
        server.go_on()
    assert await until(lambda: bus.publish(task("again")))
    assert {claim.message.id for claim in await bus.claim(["tasks.a"], "workers", 500)} >= {"again"}


async def test_it_forgets_everything_while_claims_are_out(own, open_bus, connect):
    server = own()
    bus, other = open_bus(server.url, SystemClock()), open_bus(server.url, SystemClock())
    await bus.publish(*(task(f"m{n}") for n in range(10)))
    await bus.publish(task("r", "runs.1"))
    claims = await bus.claim(["tasks.a"], "workers", 5)
    (last,) = await bus.read("runs.1")
    (note,) = await bus.claim(["runs.1"], "readers", 5)
    letter_claim = (await bus.claim(["tasks.a"], "workers"))[0]
    await bus.settle(letter_claim, dead="no")
    (letter,) = await bus.letters("tasks.a")
    await connect(server.url).ask("FLUSHALL")
    await connect(server.url).ask("SCRIPT", "FLUSH")
    await bus.settle(claims[0])
    await bus.settle(claims[1], requeue_after_s=0)
    await bus.settle(claims[2], requeue_after_s=10)
    await bus.settle(claims[3], dead="gone")
    await bus.settle(note)
    assert not await bus.revive(letter)
    assert await bus.depth(["tasks.a", "runs.1"]) == 0
    assert await bus.letters("tasks.a") == ()
    # Groups are there again with their next claim, numbers go on, and waiters are woken.
    assert await other.claim(["tasks.a"], "workers") == ()
    waiter = asyncio.ensure_future(other.wait(["tasks.a"], 60))
    assert await bus.publish(*(task(f"m{n}") for n in range(10))) == 10
    assert await asyncio.wait_for(waiter, PATIENCE_S)
    assert len(await other.claim(["tasks.a"], "workers", 20)) == 10
    await bus.publish(task("r2", "runs.1"))
    assert [message.id for message in await bus.read("runs.1", after=last.seq)] == ["r2"]


async def test_a_wrong_password_is_said_without_it(own, open_bus, connect):
    server = own()
    await connect(server.url).ask("CONFIG", "SET", "requirepass", "right-one")
    for url in (server.url, server.url.replace("redis://", "redis://:wrong-one@")):
        connection = connect(url)
        with pytest.raises(UsageError, match="does not let this user in: check user and password") as caught:
            await connection.check()
        assert "wrong-one" not in str(caught.value)
        with pytest.raises(StoreUnavailable, match="check user and password"):
            await open_bus(url, SystemClock()).depth(["tasks.a"])
    good = connect(server.url.replace("redis://", "redis://:right-one@"))
    assert await good.check()
    assert "right-one" not in good.place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost:6379/0",
        "redis://",
        "redis://:se/cret@localhost:6379/0",
        "redis://localhost:port/0",
        "redis://localhost:99999/0",
        "redis://localhost/database",
        "unix://",
    ],
)
def test_a_url_that_is_none(url):
    with pytest.raises(UsageError, match=r"redis://\[USER:PASSWORD@\]HOST") as caught:
        RedisConnection(url)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x00\x01garbage"])
async def test_something_else_listens_there(open_bus, connect, answer):
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
            await open_bus(f"redis://127.0.0.1:{port}/0", SystemClock(), patience_s=2.0).depth(["tasks.a"])
        assert not await connect(f"redis://127.0.0.1:{port}/0", patience_s=2.0).check()


async def test_a_cluster_is_refused(own, open_bus, connect):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    server = own("--cluster-enabled", "yes", "--cluster-port", str(free))
    with pytest.raises(UsageError, match="not a Redis Cluster"):
        await connect(server.url).check()
    with pytest.raises(StoreUnavailable, match="not a Redis Cluster"):
        await open_bus(server.url, SystemClock()).publish(task("m"))


async def test_a_replica_is_refused(own, open_bus, connect):
    primary = own()
    replica = own("--replicaof", f"127.0.0.1 {primary.port}")
    with pytest.raises(UsageError, match="is a replica"):
        await connect(replica.url).check()
    bus = open_bus(replica.url, SystemClock())

    async def published():
        with pytest.raises(StoreError) as caught:
            await bus.publish(task("m"))
        return caught.value if isinstance(caught.value, StoreReadOnly) else None

    assert "is a replica" in str(await until(published))


async def test_a_command_that_the_user_may_not_use(own, open_bus, connect):
    server = own()
    await connect(server.url).ask("ACL", "SETUSER", "weak", "on", ">secret", "~*", "&*", "+@all", "-evalsha")
    url = server.url.replace("redis://", "redis://weak:secret@")
    with pytest.raises(StoreUnavailable, match="forbids this user a command"):
        await open_bus(url, SystemClock()).publish(task("m"))


async def test_the_user_that_the_page_describes_may_all_that_is_needed(own, open_bus, connect):
    server = own()
    page = (Path(__file__).parents[3] / "docs/how-to/redis.md").read_text()
    rules = re.search(r"ACL SETUSER collegium (.*?)`", page, re.DOTALL)
    assert rules is not None
    await connect(server.url).ask("ACL", "SETUSER", "collegium", *rules[1].replace(">PASSWORD", ">secret").split())
    url = server.url.replace("redis://", "redis://collegium:secret@")
    assert await connect(url).check()
    bus, other = open_bus(url, SystemClock()), open_bus(url, SystemClock())
    assert await other.claim(["tasks.a"], "workers") == ()
    waiter = asyncio.ensure_future(other.wait(["tasks.a"], 60))
    await bus.publish(task("m1"), task("m2"), task("r", "runs.1"))
    assert await asyncio.wait_for(waiter, PATIENCE_S)
    one, two = await other.claim(["tasks.a"], "workers", 2)
    await other.settle(one)
    await other.settle(two, dead="why")
    (letter,) = await bus.letters("tasks.a")
    assert await bus.revive(letter)
    assert len(await bus.read("runs.1")) == 1
    assert await bus.depth(["tasks.a"]) == 1
    assert await bus.topics() == ("runs.1", "tasks.a")
    connection, clock = connect(url), SystemClock()
    cache = RedisCache(connection, clock, prefix="clg:cache:")
    await cache.put("a", b"x", ttl_s=10)
    assert await cache.get("a") == b"x"
    quota = RedisQuota(connection, clock, prefix="clg:quota:")
    assert await quota.take("a", per_minute(1)) == 0.0
    assert await quota.hold("a", "one", limit=1, ttl_s=10)
    await quota.release("a", "one")
    assert await RedisDirectory(connection, clock, prefix="clg:").cards() == ()
    with pytest.raises(StoreUnavailable, match="forbids this user a command"):
        await connection.ask("FLUSHALL")
    with pytest.raises(StoreUnavailable, match="forbids this user"):
        await connection.ask("GET", "somebody else's")
