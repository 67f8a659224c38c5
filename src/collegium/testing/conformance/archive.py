"""What every ``Archive`` does: stored bytes that verify, tombstones, collection of blobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec
import pytest

from collegium.domain.body import RunSaid
from collegium.domain.chain import GENESIS, digest_of
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.record import Record
from collegium.domain.tombstone import Tombstone
from collegium.ports import Archive, Blobs, Clock, Journal, Records
from collegium.testing.conformance.drafts import NOW, begin, decide, draft, finished, noted


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Stores that share what they hold."""

    journal: Journal
    archive: Archive
    records: Records
    blobs: Blobs
    clock: Clock


async def a_finished_run(journal: Journal, run: str, *, note: str = "x") -> None:
    """``run.submitted``, two notes, ``run.finished``, one note behind it."""
    await begin(journal, run, notes=2)
    await decide(journal, run, [finished()], status="succeeded")
    await journal.append(run, [noted(note)]).durable()


async def tombstone_of(journal: Journal, run: str, what: Literal["run", "bodies"], kept: int = 0) -> Tombstone:
    """A tombstone for the run as it stands."""
    head = await journal.head(run)
    assert head is not None
    return Tombstone(
        run=run,
        tenant=head.tenant,
        seq=head.seq,
        mac=head.mac,
        status=head.status,
        what=what,
        kept=kept,
        submitted_at=NOW,
        finished_at=NOW,
        pruned_at=NOW,
    )


@pytest.mark.asyncio
class ArchiveConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Opened]:
        """Empty stores, closed at exit."""

    async def test_links_hold_the_bytes_that_were_hashed(self) -> None:
        async with self.open() as s:
            await a_finished_run(s.journal, "run_a", note="y" * 20_000)
            links = await s.archive.links("run_a")
            assert [x.seq for x in links] == [1, 2, 3, 4, 5]
            assert all(x.body is not None and digest_of(x.salt, x.body) == x.digest for x in links)
            assert links[0].mac != GENESIS
            assert await s.archive.links("run_a", 3, 1) == links[3:4]
            assert await s.archive.verify("run_a") is None

    @pytest.mark.parametrize("kept", [0, 2, 5])
    @pytest.mark.parametrize("what", ["run", "bodies"])
    async def test_a_pruned_run_leaves_what_verifies(self, what: Literal["run", "bodies"], kept: int) -> None:
        async with self.open() as s:
            await a_finished_run(s.journal, "run_a", note="y" * 20_000)
            await a_finished_run(s.journal, "run_b")
            before = await s.archive.links("run_a")
            left = await s.archive.prune(await tombstone_of(s.journal, "run_a", what, kept))
            assert left.signature
            assert await s.archive.tombstone("run_a") == left
            assert await s.archive.tombstones("acme") == (left,)
            assert await s.archive.tombstones("acme", after="run_a") == ()
            assert await s.archive.tombstones("other") == ()
            links = await s.archive.links("run_a")
            assert links[:kept] == before[:kept]
            if what == "run":
                assert len(links) == kept
            else:
                assert [x._replace(body=None) for x in links] == [x._replace(body=None) for x in before]
                assert all(x.body is None for x in links[kept:])
            assert await s.archive.verify("run_a") is None
            assert await s.archive.verify("run_b") is None
            assert len(await s.journal.read("run_a", limit=kept)) == kept
            assert {e.run for e in (await s.journal.scan())[0][kept:]} <= {"run_b"} | ({"run_a"} if kept else set())

    async def test_bodies_that_are_gone_are_no_damage_but_the_truth(self) -> None:
        async with self.open() as s:
            await a_finished_run(s.journal, "run_a")
            await s.archive.prune(await tombstone_of(s.journal, "run_a", "bodies"))
            with pytest.raises(NotFound, match="was pruned at 2026-01-01") as caught:
                await s.journal.read("run_a")
            assert caught.value.fields["pruned"] is True
            await s.archive.prune(await tombstone_of(s.journal, "run_a", "run"))
            assert await s.journal.read("run_a") == ()
            assert (await s.archive.verify("run_a")) is None

    async def test_what_is_written_behind_a_tombstone_is_chained_to_it(self) -> None:
        async with self.open() as s:
            await a_finished_run(s.journal, "run_a")
            await s.archive.prune(await tombstone_of(s.journal, "run_a", "run"))
            (event,) = await s.journal.append("run_a", [noted("late")]).durable()
            assert event.seq == 6
            assert await s.archive.verify("run_a") is None
            await s.archive.prune(await tombstone_of(s.journal, "run_a", "run"))
            assert await s.archive.links("run_a") == ()
            assert await s.archive.verify("run_a") is None

    async def test_a_run_that_goes_on_or_has_moved_is_not_pruned(self) -> None:
        async with self.open() as s:
            await begin(s.journal, "run_a", notes=2)
            with pytest.raises(Conflict):
                await s.archive.prune(await tombstone_of(s.journal, "run_a", "run"))
            await a_finished_run(s.journal, "run_b")
            old = await tombstone_of(s.journal, "run_b", "run")
            await s.journal.append("run_b", [noted("late")]).durable()
            with pytest.raises(Conflict):
                await s.archive.prune(old)
            with pytest.raises(Conflict):
                await s.archive.prune(msgspec.structs.replace(old, run="run_unknown"))
            assert await s.archive.tombstones("acme") == ()
            assert len(await s.journal.read("run_b")) == 6

    async def test_only_blobs_that_nobody_names_are_collected_and_only_old_ones(self) -> None:
        async with self.open() as s:
            names = [s.blobs.put("acme", f"blob {n}".encode()) for n in range(5)]
            other = s.blobs.put("eve", b"blob 1")
            read = s.blobs.put("acme", b"how blob 1 was read")
            unread = s.blobs.put("acme", b"how blob 4 was read")
            await s.blobs.flush()
            await begin(s.journal, "run_a")
            await decide(s.journal, "run_a", [draft(RunSaid(text=f"see {names[1]}", principal="a"))])
            values = {names[1]: read, names[4]: unread}
            for name, value in values.items():
                record = Record(kind="extraction", tenant="acme", key=f"{name}:text@1", value={"blob": value})
                await s.records.put(record)
            await s.records.put(Record(kind="other", tenant="acme", key="k", value={"of": [names[2]]}))
            hour = timedelta(hours=1)
            assert await s.archive.collect(before=s.clock.now() - hour) == 0
            assert await s.archive.collect(before=s.clock.now() + hour) == 5
            assert await s.archive.collect(before=s.clock.now() + hour) == 0
            for kept in (names[1], names[2], read):
                assert await s.blobs.get("acme", kept)
            for tenant, gone in [("acme", names[0]), ("acme", names[3]), ("acme", names[4]), ("acme", unread)]:
                with pytest.raises(NotFound):
                    await s.blobs.get(tenant, gone)
            with pytest.raises(NotFound):
                await s.blobs.get("eve", other)
            assert await s.records.get("extraction", "acme", f"{names[4]}:text@1") is None
            assert await s.records.get("extraction", "acme", f"{names[1]}:text@1") is not None
