"""The cards of workers where there is no Redis: as files of one machine, or as records of a store."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from collegium.adapters.folders import make_folder
from collegium.domain.errors import StoreUnavailable
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


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Posted).decode


class FileDirectory:
    """Implements ``Directory`` for processes of one machine: a file for each worker, written anew with each card.

    Args:
        folder: The same for all processes of a store.
        clock: Tells which cards still count.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card for ``ttl_s`` seconds, in place of the worker's last one. Raises ``StoreUnavailable``."""
        posted = Posted(until=self._clock.now() + timedelta(seconds=ttl_s), card=card)
        try:
            self._write(card.worker, _encode(posted))
        except OSError as error:
            raise StoreUnavailable(f"{self._folder} cannot be written: {error.strerror}") from error

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker; old ones are removed."""
        now, cards = self._clock.now(), []
        for path in sorted(self._folder.glob("wrk_*.card")):
            try:
                posted = _decode(path.read_bytes())
            except (OSError, msgspec.MsgspecError):
                continue  # removed meanwhile, or written by another version
            if posted.until > now:
                cards.append(posted.card)
            elif posted.until < now - FORGOTTEN:
                path.unlink(missing_ok=True)
        return tuple(cards)

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless."""
        with suppress(OSError):
            self._path(worker).unlink(missing_ok=True)

    def _write(self, worker: str, data: bytes) -> None:
        """Writes a card in one step. Nothing is synced: what a power cut takes with it is gone as well."""
        make_folder(self._folder)
        hidden = self._folder / f".{worker}.card"
        hidden.write_bytes(data)
        hidden.rename(self._path(worker))

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.card"


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
