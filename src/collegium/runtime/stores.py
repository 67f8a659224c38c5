"""Stores: everything that is kept, in one bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from collegium.ports import Archive, Blobs, Bus, Directory, Journal, Presence, Quota, Records


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
    directory: Directory | None = None
    """Where workers show their cards; without one nobody is told which workers there are."""
    quota: Quota | None = None
    """Rates and places that all processes share; without one nothing is limited over processes."""
    commits: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Transactions of this process that were committed, and those that failed."""
