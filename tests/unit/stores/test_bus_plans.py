"""What the statements of the SQLite bus go through: never all that waits, however much that is."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collegium.adapters.sqlite import bus_statements as sql
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.domain.message import Message
from collegium.testing.clock import FakeClock

AT = 1.0
HOT = {
    "publish": (sql.PUBLISH_ONE, ("t", "id", "acme", "{}", 2, None, AT, AT, None, 1)),
    "queue one": (sql.QUEUE_ONE, (1, "acme", AT, 0, AT, None, "t")),
    "queue": (sql.QUEUE, (60.0, AT, 9)),
    "look": (sql.LOOK, ("acme", "t")),
    "add": (sql.ADD, (1, "t")),
    "take one": (sql.TAKE_ONE, ("t", "g")),
    "open": (sql.OPEN, ("acme", "t")),
    "has open": (sql.has_open(2), ("g", "t", "g", "u")),
    "open lanes": (sql.open_lanes(1), ("g", "t")),
    "open lanes of two": (sql.open_lanes(2), ("g", "t", "g", "u")),
    "present": (sql.PRESENT, ("g", "acme")),
    "first": (sql.first_of(1), ("t", "g", "acme", 1)),
    "first of two": (sql.first_of(2), ("t", "g", "acme", 1, "u", "g", "acme", 1)),
    "claim": (sql.CLAIM, (AT, "token", 1, "g")),
    "advance": (sql.ADVANCE, (AT, "g", "acme")),
    "move": (sql.MOVE, ("g", AT)),
    "close": (sql.CLOSE, ("g", "acme", "t")),
    "settle": (sql.SETTLE, (1, "g", "token")),
    "done": (sql.DONE, (1,)),
    "settled": (sql.SETTLED, (1,)),
    "requeue": (sql.REQUEUE, (AT, 1, "g", "token")),
    "next": (sql.NEXT, ("t",)),
    "lapsed": (sql.LAPSED, ("t", AT, 10)),
    "open due": (sql.OPEN_DUE, ("t", AT)),
    "show": (sql.SHOW, ("t", AT)),
    "is ready": (sql.IS_READY, ("t",)),
    "read": (sql.READ, ("t", 1, 0.0, 10)),
    "letters": (sql.LETTERS, ("t", 1, 10)),
    "expired": (sql.EXPIRED, ("t", AT)),
    "expire": (sql.EXPIRE, ("t", AT)),
    "depth": (sql.DEPTH_OF_ONE, ("t", AT)),
    "unclaimed": (sql.UNCLAIMED, ("t", AT)),
    "last seq": (sql.LAST_SEQ, ()),
    "new topics": (sql.NEW_TOPICS, (9,)),
}
_LARGE = ("messages", "work", "letters", "lanes")


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    path = tmp_path / "bus.db"
    bus = SqliteBus(path, FakeClock())
    await bus.aclose()
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", HOT)
async def test_no_statement_goes_through_all_that_waits(connection: sqlite3.Connection, name: str) -> None:
    statement, values = HOT[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    walks = [step for step in plan if step.startswith("SCAN") and any(f" {table}" in step for table in _LARGE)]
    assert walks == [], plan


@pytest.mark.parametrize("name", ["first", "first of two", "open lanes", "read", "next"])
async def test_what_goes_first_is_found_without_sorting(connection: sqlite3.Connection, name: str) -> None:
    statement, values = HOT[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not any("TEMP B-TREE" in step for step in plan), plan


async def test_a_claim_takes_as_many_steps_below_much_as_below_little(tmp_path: Path) -> None:
    """Counted in SQLite's own instructions, which no other process disturbs."""
    steps = []
    for waiting in (1_000, 50_000):
        bus = SqliteBus(tmp_path / f"{waiting}.db", FakeClock())
        await bus.claim(["tasks.a"], "workers")
        for start in range(0, waiting, 1_000):
            await bus.publish(
                *(
                    Message(id=f"m{start + n}", topic="tasks.a", tenant=f"t{n % 7}", body={}, priority=n % 4)
                    for n in range(1_000)
                )
            )
        await bus.claim(["tasks.a"], "workers", 9)
        count = [0]

        def step(count: list[int] = count) -> int:
            count[0] += 1
            return 0

        bus._file._near.set_progress_handler(step, 1)
        (claim,) = await bus.claim(["tasks.a"], "workers")
        await bus.settle(claim)
        await bus.publish(Message(id="new", topic="tasks.a", tenant="t1", body={}))
        steps.append(count[0])
        await bus.aclose()
    assert 0 < steps[1] < 1.5 * steps[0], steps
