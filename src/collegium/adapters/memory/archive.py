"""The archive of the stores in this process's memory."""

from __future__ import annotations

import re
from datetime import datetime

from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.checkpoints import MemoryCheckpoints
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.rows import to_link
from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.tombstone import Tombstone, signed, verify

_NAME = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class MemoryArchive:
    """Implements ``Archive`` over stores of the same process."""

    def __init__(self, journal: MemoryJournal, records: MemoryRecords, blobs: MemoryBlobs) -> None:
        self._journal = journal
        self._records = records
        self._blobs = blobs
        self.signed = MemoryCheckpoints(journal)
        """The chains of checkpoints."""

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order."""
        return tuple(map(to_link, self._journal.rows(run, after, limit)))

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None."""
        now = await self._journal.head(run)
        head = None if now is None else (now.seq, bytes.fromhex(now.mac))
        links = await self.links(run, limit=2**62)
        tombstone = self._journal.tombstones.get(run)
        if tombstone is not None:
            return verify(self._journal.key, links, tombstone, head=head)
        return chain.verify(self._journal.key, (x._replace(body=x.body or b"") for x in links), head=head)

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed. Raises ``Conflict``."""
        tombstone = signed(self._journal.key, tombstone)
        self._journal.prune(tombstone)
        return tombstone

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs, by run."""
        found = sorted(self._journal.tombstones.items())
        return tuple([t for run, t in found if run > after and t.tenant == tenant][: max(0, limit)])

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""
        return self._journal.tombstones.get(run)

    async def collect(self, *, before: datetime) -> int:
        """Deletes old blobs that no event and no record names."""
        named = {(x.tenant, name) for x in await self._links() for name in _NAME.findall(x.body or b"")}
        readings = []
        for kind, tenant, key, value in self._records.values():
            if kind == "extraction":
                readings.append((tenant, key, _NAME.findall(value)))
            else:
                named.update((tenant, name) for name in _NAME.findall(value))
        for tenant, key, names in readings:
            if (tenant, key[:64].encode()) in named:
                named.update((tenant, name) for name in names)
            else:
                await self._records.delete("extraction", tenant, key)
        unnamed = [(t, s) for t, s in self._blobs.names(before=before) if (t, s.encode()) not in named]
        for tenant, sha256 in unnamed:
            await self._blobs.delete(tenant, sha256)
        return len(unnamed)

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs where the runs of each tenant stand that changed since the last time."""
        return self.signed.write(at=at, pause_s=pause_s)

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        """The checkpoints of ``tenant`` by number."""
        return self.signed.some(tenant, after, limit)

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        """What all checkpoints of ``tenant`` say together."""
        return self.signed.covered(tenant, against)

    async def _links(self) -> list[Link]:
        return [link for run in self._journal.runs for link in await self.links(run, limit=2**62)]
