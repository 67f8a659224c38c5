"""What is refused leaves the connection that writes as it was."""

import asyncio

import pytest

from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.store import PostgresStore, open_store
from collegium.adapters.postgres.writer import Deed
from collegium.domain.errors import Conflict
from collegium.testing.conformance.drafts import begin, noted


class Refusing(Deed):
    """Reads, then finds that it may not."""

    __slots__ = ()

    async def act(self, connection: Connection) -> None:
        await connection.execute("SELECT run FROM heads WHERE run = %s", ("run_a",))
        raise Conflict("somebody was quicker")


async def refused(store: PostgresStore) -> None:
    item = Refusing()
    store.writer.put(item)
    with pytest.raises(Conflict):
        await store.writer.settled(item)


async def test_whoever_is_refused_again_and_again_takes_nothing_from_those_who_come_after(postgres_url: str):
    """The driver throws prepared statements away after a rollback: they are not to be those of the writer."""
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    for _ in range(5):
        await store.blobs.delete("default", "0" * 64)
    for n in range(3):
        await refused(store)
        await store.blobs.delete("default", "0" * 64)
        await store.journal.append("run_a", [noted(str(n))]).durable()
    assert len(await store.journal.read("run_a")) == 4
    assert store.writer.stats.failures == 0
    await store.aclose()


async def test_a_connection_that_has_lost_its_statements_is_replaced(postgres_url: str):
    """Something between may reset a connection; what waits is written through a new one."""
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    connection = store.writer._connection
    assert connection is not None
    await connection.execute("DEALLOCATE ALL")
    waiting = [store.journal.append("run_a", [noted(str(n))]).durable() for n in range(3)]
    await asyncio.gather(*waiting)
    assert len(await store.journal.read("run_a")) == 4
    await store.aclose()
