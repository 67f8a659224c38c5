"""The archive of a simulated world: one chain of checkpoints that every process writes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from collegium.adapters.memory.archive import MemoryArchive
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.records import MemoryRecords
from collegium.domain.checkpoint import Checkpoint
from collegium.domain.errors import StoreUnavailable
from tests.simulation.journal import SharedJournal
from tests.simulation.machine import Machine

Signed = Callable[[Sequence[Checkpoint], str], None]


class SharedArchive(MemoryArchive):
    """What all processes share.

    Args:
        on_signed: Told of checkpoints right after they were written, and by whom.
    """

    def __init__(
        self, journal: SharedJournal, records: MemoryRecords, blobs: MemoryBlobs, *, on_signed: Signed
    ) -> None:
        super().__init__(journal, records, blobs)
        self.journal, self.records, self.blobs = journal, records, blobs
        self.on_signed = on_signed


class HostArchive(MemoryArchive):
    """Implements ``Archive``: signing is a durable act; nothing else of it is done in simulated worlds."""

    def __init__(self, shared: SharedArchive, machine: Machine) -> None:
        super().__init__(shared.journal, shared.records, shared.blobs)
        self.shared = shared
        self._machine = machine

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs what has changed."""
        await self._machine.reach("archive.checkpoint:before")
        if self._machine.faults.strikes("store"):
            raise StoreUnavailable("the simulated archive does not answer")
        made = await self.shared.checkpoint(at=at, pause_s=pause_s)
        if made:
            self.shared.on_signed(made, self._machine.name)
            await self._machine.reach("archive.checkpoint:after")
        return made
