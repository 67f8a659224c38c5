"""Stores: everything that is kept, in one bundle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collegium.ports import Archive, Blobs, Bus, Cache, Directory, Journal, Presence, Quota, Records


class Part(Protocol):
    """One of several stores that hold runs, each with checkpoints of its own."""

    @property
    def number(self) -> int:
        """The shard; 0 where there is one store only."""
        ...

    @property
    def journal(self) -> Journal:
        """Its runs."""
        ...

    @property
    def archive(self) -> Archive:
        """Its runs as they are stored."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where things are kept."""

    journal: Journal
    bus: Bus
    records: Records
    blobs: Blobs
    presence: Presence
    archive: Archive | None = None
    """Needed by whoever exports, verifies or prunes runs."""
    parts: Sequence[Part] = ()
    """The stores that hold runs, where there are several."""
    directory: Directory | None = None
    """Where workers show their cards; without one nobody is told which workers there are."""
    cache: Cache | None = None
    """What processes keep for each other, where they share a cache."""
    quota: Quota | None = None
    """Rates and places that all processes share; without one nothing is limited over processes."""
    place: Callable[[str], int] = lambda digits: 0
    """Chooses the shard of a new run by the digits of its id."""
    commits: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Transactions of this process that were committed, and those that failed."""
    version: Callable[[], Hashable | None] = lambda: None
    """Another value whenever anything was stored by whomever; None where that takes more than a few microseconds."""
    moment: Callable[[], Awaitable[Hashable]] | None = None
    """The same where it takes a trip; None where it cannot be told."""
