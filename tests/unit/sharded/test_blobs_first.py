"""An event in a shard is never stored without the blobs it names, which are in the catalogue."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.journal import ShardedJournal
from collegium.adapters.sharded.shards import shard_by_id
from collegium.domain.errors import Fenced, NotFound, StoreFull
from collegium.domain.head import Fence
from collegium.domain.ids import Ids
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import begin, decide, eventually, noted, ready, running, settled
from tests.unit.sharded.stores import sharded

ids = Ids(lambda: 1)
ONE = Fence(task="t", attempt=1)


class SlowBlobs(MemoryBlobs):
    """Blobs that are durable when the test says so, or lost."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.may_flush = asyncio.Event()
        self.error: Exception | None = None
        self.flushes = 0

    async def flush(self) -> None:
        self.flushes += 1
        await self.may_flush.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_an_append_waits_for_what_was_put_before_it_and_those_behind_it_wait_too(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        slow = SlowBlobs()
        blobs = GuardedBlobs(slow)
        journal = ShardedJournal(s.shards, blobs)
        run, other, local = ids.run(1), ids.run(2), ids.run(0)
        for one in (run, other, local):
            await begin(journal, one)
        blobs.put("acme", b"x")
        receipts = [journal.append(run, [noted(f"see {name_of(b'x')}")]), journal.append(run, [noted(2)])]
        assert len(await journal.append(local, [noted("catalogue")]).durable()) == 1
        await eventually(lambda: _is(slow.flushes == 1))
        assert len(await s.stores[1].journal.read(run)) == 1
        slow.may_flush.set()
        assert [(await r.durable())[0].seq for r in receipts] == [2, 3]
        assert not blobs.is_pending
        assert len(await journal.append(other, [noted("at once")]).durable()) == 1
        assert slow.flushes == 1, "nothing was put since: nothing is waited for"
        await journal.aclose()


async def test_what_names_a_lost_blob_fails_and_so_does_all_that_its_attempt_appends_later(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        slow = SlowBlobs()
        blobs = GuardedBlobs(slow)
        journal = ShardedJournal(s.shards, blobs)
        run = ids.run(1)
        await begin(journal, run)
        await decide(journal, run, [ready("t", 1), ready("u", 1)])
        slow.error = StoreFull("no space")
        slow.may_flush.set()
        blobs.put("acme", b"x")
        cause = journal.append(run, [noted(f"see {name_of(b'x')}")], fence=ONE)
        effect = journal.append(run, [noted("effect")], fence=ONE)
        other = journal.append(run, [noted("other")], fence=Fence(task="u", attempt=1))
        assert len(await other.durable()) == 1
        with pytest.raises(StoreFull):
            await cause.durable()
        with pytest.raises(Fenced):
            await effect.durable()
        with pytest.raises(StoreFull):
            await blobs.flush()
        with pytest.raises(Fenced, match="was not stored"):
            await journal.append(run, [noted("much later")], fence=ONE).durable()
        with pytest.raises(StoreFull):
            await journal.append(run, [noted(f"see {name_of(b'x')}")]).durable()
        assert len(await journal.read(run)) == 4
        blobs.put("acme", b"x")
        assert len(await journal.append(run, [noted(f"see {name_of(b'x')}")]).durable()) == 1
        await decide(journal, run, [settled("t", 1)])
        with pytest.raises(Fenced, match="is closed"):
            await journal.append(run, [noted("too late")], fence=ONE).durable()
        await journal.aclose()


async def test_nothing_that_waits_is_left_behind_at_the_end(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        run = ids.run(1)
        await begin(s.journal, run)
        s.blobs.put("acme", b"x")
        last = s.journal.append(run, [noted("last")])
        await s.journal.aclose()
        assert (await last.durable())[0].seq == 2
        with pytest.raises(Exception, match="is away"):
            await s.journal.append(run, [noted("behind the end")]).durable()


async def test_an_unknown_shard_is_told_by_its_number_and_the_setting(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        run = ids.run(77)
        assert shard_by_id(run) == 77
        for ask in (s.journal.head(run), s.journal.read(run), s.archive.links(run), begin(s.journal, run)):
            with pytest.raises(NotFound, match=r"shard 77.*0, 1, 2.*postgres\.shards"):
                await ask


async def test_wrong_use_is_told_at_once_while_others_wait(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        s.blobs.put("acme", b"x")
        with pytest.raises(ValueError, match="head"):
            s.journal.append(ids.run(1), [noted(1)], head=running())


async def _is(value: bool) -> bool:
    return value
