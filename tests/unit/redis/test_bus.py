"""What only the bus in Redis has to care for: keys that end, numbers that grow, one connection, workers that differ."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.message import Message
from collegium.testing.clock import FakeClock


def task(id_, topic="tasks.a", *, tenant="acme", **body):
    return Message(id=id_, topic=topic, tenant=tenant, body=body)


async def lives(connection, prefix):
    """Seconds to live by key; -1: for ever."""
    keys = await connection.ask("KEYS", f"{prefix}*")
    return {key.decode().removeprefix(prefix): await connection.ask("TTL", key) for key in keys}


async def settle_all(bus, topics, group="workers"):
    while claims := await bus.claim(topics, group, 10):
        for claim in claims:
            await bus.settle(claim)


async def test_only_what_waits_lives_for_ever(redis, open_bus, connect, prefix):
    bus, connection = open_bus(redis.url, FakeClock(), keep_s=1_000.0), connect(redis.url)
    await bus.publish(task("m1"), task("m2"), task("m3", tenant="other"), task("r", "runs.1"))
    await bus.publish(task("later"), delay_s=10)
    await bus.publish(task("answer", "replies.1"))
    first, second = await bus.claim(["tasks.a"], "workers", 2)
    (note,) = await bus.claim(["runs.1"], "readers")
    (answer,) = await bus.claim(["replies.1"], "askers")
    found = await lives(connection, prefix)
    forever = {key.partition("|")[0] for key, ttl in found.items() if ttl == -1}
    # Work that waits or is held, in queues and out of them, and a note that nobody has settled.
    assert forever == {f"{kind}:tasks.a" for kind in "imqtdhe"} | {f"{kind}:runs.1" for kind in "ixghe"}
    assert all(0 < ttl <= 300 for key, ttl in found.items() if ":replies.1" in key)
    await bus.settle(first, dead="no")
    await bus.settle(second)
    await bus.settle(note)
    await bus.settle(answer)
    await settle_all(bus, ["tasks.a"])
    found = await lives(connection, prefix)
    # The delayed message still waits; everything else has an end.
    assert {key.partition("|")[0] for key, ttl in found.items() if ttl == -1} == {f"{kind}:tasks.a" for kind in "imd"}
    assert 0 < found["x:runs.1"] <= 1_000
    assert 0 < found["b:tasks.a"] <= 1_000


async def test_numbers_grow_though_the_clock_goes_back(redis, open_bus, connect, prefix):
    late, early = FakeClock(datetime(2026, 1, 2, tzinfo=UTC)), FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    one, two = open_bus(redis.url, late), open_bus(redis.url, early)
    await one.publish(task("m1", "runs.1"))
    await two.publish(task("m2", "runs.1"))
    await connect(redis.url).ask("DEL", f"{prefix}seq")
    await two.publish(task("m3", "runs.1"), task("m4", "runs.1"))
    await one.publish(task("m5", "runs.1"))
    read = await one.read("runs.1")
    assert [message.id for message in read] == ["m1", "m2", "m3", "m4", "m5"]
    assert len({message.seq for message in read}) == 5
    assert [message.id for message in await one.read("runs.1", after=read[1].seq)] == ["m3", "m4", "m5"]
    assert [message.id for message in await one.read("runs.1", since=late.now())] == ["m1", "m5"]
    assert [message.id for message in await one.read("runs.1", since=early.now() + timedelta(seconds=1))] == [
        "m1",
        "m5",
    ]
    assert [message.id for message in await one.read("runs.1", 0, 2)] == ["m1", "m2"]


async def test_one_connection_carries_what_many_ask_at_once(redis, open_bus, connect):
    connection = connect(redis.url)
    before = (await connection.ask("CLIENT", "LIST")).count(b" laddr=")
    bus = open_bus(redis.url, SystemClock())
    published = await asyncio.gather(*(bus.publish(task(f"m{n}")) for n in range(300)))
    assert sum(published) == 300
    claims = await asyncio.gather(*(bus.claim(["tasks.a"], "workers") for _ in range(300)))
    assert sorted(c.message.id for (c,) in claims) == sorted(f"m{n}" for n in range(300))
    await asyncio.gather(*(bus.settle(c) for (c,) in claims))
    # Its own, and the subscription's.
    assert (await connection.ask("CLIENT", "LIST")).count(b" laddr=") <= before + 2


async def test_a_lot_beyond_one_call_keeps_its_order(redis, open_bus):
    bus = open_bus(redis.url, FakeClock())
    messages = [task(f"m{n}", "runs.1" if n % 3 else "tasks.a", text="x" * (n % 2) * 20_000) for n in range(900)]
    assert await bus.publish(*messages, messages[0], messages[899]) == 900
    assert [m.id for m in await bus.read("runs.1")] == [f"m{n}" for n in range(900) if n % 3]
    claims = await bus.claim(["tasks.a"], "workers", 1_000)
    assert [c.message.id for c in claims] == [f"m{n}" for n in range(0, 900, 3)]


async def test_names_with_any_letters_stay_apart(redis, open_bus):
    bus = open_bus(redis.url, FakeClock())
    await bus.publish(task("m\n1", tenant="a|b"), task("m|2", tenant="b"), task("\u20ac\x00", tenant=""))
    one = await bus.claim(["tasks.a"], "g|1:a", 9)
    two = await bus.claim(["tasks.a"], "g", 9)
    for claims in (one, two):
        assert {(c.message.id, c.message.tenant) for c in claims} == {("m\n1", "a|b"), ("m|2", "b"), ("\u20ac\x00", "")}
    for claim in one:
        await bus.settle(claim)
    assert await bus.depth(["tasks.a"]) == 0
    for claim in two:
        await bus.settle(claim, requeue_after_s=0)
    assert len(await bus.claim(["tasks.a"], "g", 9)) == 3


async def test_tenants_share_a_slow_topic_whatever_goes_on_beside_it(redis, open_bus):
    """Who only finds few workers is not behind all that others got elsewhere, and owes nothing for it."""
    bus = open_bus(redis.url, FakeClock())
    await bus.publish(*(task(f"old {n}", "tasks.slow", tenant="old") for n in range(60)))
    await bus.publish(*(task(f"new {n}", "tasks.slow", tenant="new") for n in range(60)))
    await bus.publish(*(task(f"fast {n}", "tasks.fast", tenant="busy") for n in range(600)))
    served: Counter[str] = Counter()
    for _ in range(40):
        for claim in await bus.claim(["tasks.fast"], "workers", 10):
            await bus.settle(claim)
        for claim in await bus.claim(["tasks.slow"], "workers"):
            served[claim.message.tenant] += 1
            await bus.settle(claim)
    assert served == {"old": 20, "new": 20}


async def test_who_comes_late_on_another_topic_has_saved_up_nothing(redis, open_bus):
    bus = open_bus(redis.url, FakeClock())
    await bus.publish(*(task(f"e{n}", tenant="early") for n in range(200)))
    await bus.publish(task("once", "tasks.b", tenant="late"))
    both = ["tasks.a", "tasks.b"]
    for _ in range(101):
        for claim in await bus.claim(both, "workers"):
            await bus.settle(claim)
    await bus.publish(*(task(f"l{n}", "tasks.b", tenant="late") for n in range(50)))
    served = Counter([c.message.tenant for _ in range(40) for c in await bus.claim(both, "workers")])
    assert abs(served["late"] - 20) <= 1, served


@pytest.mark.parametrize("beside", [0, 10])
async def test_who_empties_its_queue_each_time_still_waits_for_its_turn(redis, open_bus, beside):
    bus = open_bus(redis.url, FakeClock())
    await bus.publish(*(task(f"fast {n}", "tasks.fast", tenant="busy") for n in range(40 * beside)))
    await bus.publish(*(task(f"w{n}", tenant="waiting") for n in range(40)))
    served: Counter[str] = Counter()
    for n in range(40):
        assert len(await bus.claim(["tasks.fast"], "workers", beside)) == beside
        # Urgent, so that it would go first among tenants that are as far.
        await bus.publish(Message(id=f"e{n}", topic="tasks.a", tenant="eager", body={}, priority=0))
        (claim,) = await bus.claim(["tasks.a"], "workers")
        served[claim.message.tenant] += 1
        await bus.settle(claim)
    assert abs(served["waiting"] - 20) <= 1, served


async def test_the_first_group_takes_over_what_waited_before_it_came(redis, open_bus):
    clock = FakeClock()
    bus = open_bus(redis.url, clock)
    await bus.publish(*(task(f"{tenant}{n}", tenant=tenant) for n in range(3) for tenant in "ab"))
    await bus.publish(task("later", tenant="c"), delay_s=5)
    assert await bus.depth(["tasks.a"]) == 7
    first = await bus.claim(["tasks.a"], "workers", 2)
    second = await bus.claim(["tasks.a"], "others", 9)
    assert len(first) == 2
    assert len(second) == 6
    await clock.advance(5)
    assert [c.message.id for c in await bus.claim(["tasks.a"], "others", 9)] == ["later"]
    assert len(await bus.claim(["tasks.a"], "workers", 9)) == 5


async def test_a_script_that_the_server_has_forgotten_is_brought_again(redis, open_bus, connect):
    bus, connection = open_bus(redis.url, FakeClock()), connect(redis.url)
    for n in range(3):
        await connection.ask("SCRIPT", "FLUSH")
        new = await asyncio.gather(*(bus.publish(task(f"{name}{n}")) for name in "abc"))
        assert new == [1, 1, 1]


async def test_what_nobody_waits_for_any_more_is_not_listened_to(redis, open_bus, connect, prefix):
    clock = FakeClock()
    bus, connection = open_bus(redis.url, clock), connect(redis.url)

    async def heard():
        channels = await connection.ask("PUBSUB", "CHANNELS", f"{prefix}*")
        return {channel.decode().removeprefix(prefix) for channel in channels}

    async def waited(topic, expected):
        await bus.read(topic)
        waiter = asyncio.ensure_future(bus.wait([topic], 10_000))
        async with asyncio.timeout(30):
            while await heard() != expected:
                await clock.advance(1)
        assert await bus.publish(task(f"m{clock.monotonic()}", topic)) == 1
        assert await waiter

    await waited("runs.1", {"w:runs.1"})
    await waited("runs.2", {"w:runs.1", "w:runs.2"})
    await clock.advance(61)
    await waited("runs.3", {"w:runs.3"})
    await waited("runs.1", {"w:runs.1", "w:runs.3"})


async def test_after_the_end_nothing_is_asked_any_more(redis, open_bus, connect):
    from collegium.domain.errors import StoreUnavailable

    bus, connection = open_bus(redis.url, SystemClock()), connect(redis.url)
    await bus.publish(task("m"))
    await bus.read("runs.1")
    waiter = asyncio.ensure_future(bus.wait(["runs.1"], 0.05))
    await bus.aclose()
    await bus.aclose()
    assert await waiter is False
    await connection.ask("PING")
    await connection.aclose()
    await connection.aclose()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await connection.ask("PING")
