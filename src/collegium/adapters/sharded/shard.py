"""A shard: one store among several that hold runs, whether it can be reached now or not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from collegium.adapters.blob_rules import Elsewhere, Names
from collegium.domain.errors import StoreError, StoreUnavailable
from collegium.ports import Archive, Clock, Journal

CATALOGUE: Final = 0
"""The shard that also keeps accounts, records, blobs and everything else that is no run."""
LOOK_S: Final = 1.0
"""So often it is tried whether a shard that is away is back."""
_log = logging.getLogger("collegium.shards")


class ShardArchive(Archive, Protocol):
    """An archive that knows which blobs its events name."""

    async def names(self, after: str = "") -> tuple[Names, str]:
        """Blobs named by events stored behind the cursor ``after``, and the cursor to go on from."""

    async def collect_unless(self, elsewhere: Elsewhere, *, before: datetime) -> int:
        """``collect`` that spares what ``elsewhere`` gives; it is asked at first and again right before the end."""


@dataclass(frozen=True, kw_only=True)
class OpenShard:
    """What can be reached of a shard."""

    journal: Journal
    archive: ShardArchive
    aclose: Callable[[], Awaitable[None]]
    commits: Callable[[], tuple[int, int]] = lambda: (0, 0)


class Shard:
    """A numbered store.

    Args:
        number: 0 for the catalogue, else 1 to 255; for ever, since the ids of its runs say it.
        place: Where it is, for messages; no password.
        weight: Its share of new runs, beside the others' weights; 0 for none.
        opened: The store, if it could be opened.
        reopen: Opens the store that could not be opened yet.
    """

    def __init__(
        self,
        number: int,
        *,
        place: str,
        clock: Clock,
        weight: float = 1.0,
        opened: OpenShard | None = None,
        reopen: Callable[[], Awaitable[OpenShard]] | None = None,
    ) -> None:
        self.number = number
        self.place = place
        self.weight = weight
        self._clock = clock
        self._opened = opened
        self._reopen = reopen
        self._watch: asyncio.Task[None] | None = None
        self._why = "it could not be opened"

    @property
    def journal(self) -> Journal:
        """Its runs. Raises ``StoreUnavailable`` where it could never be opened."""
        return self._open().journal

    @property
    def archive(self) -> ShardArchive:
        """Its runs as they are stored. Raises ``StoreUnavailable`` where it could never be opened."""
        return self._open().archive

    @property
    def commits(self) -> tuple[int, int]:
        """Transactions of this process that were committed, and those that failed."""
        return (0, 0) if self._opened is None else self._opened.commits()

    @property
    def is_away(self) -> bool:
        """Whether the last that was heard of it is that it cannot be reached."""
        return self._watch is not None

    def told(self, error: StoreError) -> StoreError:
        """``error`` of this store as it is passed on: it says which shard it is about, the catalogue's says nothing.

        A shard that is away is watched from then on, until it is back.
        """
        if self.number == CATALOGUE or error.fields.get("shard") == self.number:
            return error
        if isinstance(error, StoreUnavailable):
            self.missed(error.message)
        return type(error)(f"shard {self.number}: {error.message}", **{**error.fields, "shard": self.number})

    def missed(self, why: str) -> None:
        """Takes note that the shard is away; it is looked at every second until it is back."""
        self._why = why
        if self._watch is None and self.number != CATALOGUE:
            _log.warning("shard %d (%s) is away; the others go on: %s", self.number, self.place, why)
            self._watch = asyncio.get_running_loop().create_task(self._look())

    def unavailable(self) -> StoreUnavailable:
        """The error for whoever needs it while it is away."""
        return StoreUnavailable(
            f"shard {self.number} ({self.place}) is away: {self._why}", shard=self.number, store=self.place
        )

    async def aclose(self) -> None:
        """Looks no more and closes the store; twice is harmless."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        opened, self._opened, self._reopen = self._opened, None, None
        if opened is not None:
            self._why = "it is closed"
            await opened.aclose()

    def _open(self) -> OpenShard:
        if self._opened is None:
            self.missed(self._why)
            raise self.unavailable()
        return self._opened

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                if self._opened is None and self._reopen is not None:
                    self._opened = await self._reopen()
                if self._opened is not None:
                    await self._opened.journal.head(f"run_{0:032x}{self.number:02x}")
                    break
            except StoreError as error:
                self._why = error.message
        self._watch = None
        _log.warning("shard %d (%s) is back", self.number, self.place)
