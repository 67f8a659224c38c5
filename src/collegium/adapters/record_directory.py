"""The cards of workers in the store itself, where processes of several machines share no Redis."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from collegium.domain.record import Record
from collegium.domain.worker import WorkerCard
from collegium.ports import Clock, Records

RECORD, TENANT = "worker_card", "~fleet"
FORGOTTEN: Final = timedelta(hours=1)
"""A card that does not count any more is removed after so long: its worker cannot do so."""
_MOST = 1_000


class Posted(msgspec.Struct, frozen=True):
    """A card, and until when it counts."""

    until: datetime
    card: WorkerCard


class RecordDirectory:
    """Implements ``Directory`` for all processes that share a store: a record for each worker.

    Args:
        records: Of the store.
        clock: Tells which cards still count; the hosts' clocks may differ by less than the time a card counts.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card for ``ttl_s`` seconds, in place of the worker's last one. Raises ``StoreError``."""
        posted = Posted(until=self._clock.now() + timedelta(seconds=ttl_s), card=card)
        value = msgspec.to_builtins(posted)
        await self._records.put(Record(kind=RECORD, tenant=TENANT, key=card.worker, value=value))

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker; old ones are removed. Raises ``StoreError``."""
        now, cards = self._clock.now(), []
        for record in await self._records.find(RECORD, TENANT, limit=_MOST):
            try:
                posted = msgspec.convert(record.value, Posted)
            except msgspec.ValidationError:
                continue  # written by another version
            if posted.until > now:
                cards.append(posted.card)
            elif posted.until < now - FORGOTTEN:
                await self._records.delete(RECORD, TENANT, record.key)
        return tuple(cards)

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless. Raises ``StoreError``."""
        await self._records.delete(RECORD, TENANT, worker)
