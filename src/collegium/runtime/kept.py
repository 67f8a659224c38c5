"""The stores of runs that are kept, as far as export and retention look into them."""

from __future__ import annotations

from typing import Protocol

from collegium.domain.errors import UsageError
from collegium.ports import Archive, Blobs, Journal, Records


class Kept(Protocol):
    """Stores that share what they hold."""

    @property
    def journal(self) -> Journal:
        """The runs."""
        ...

    @property
    def records(self) -> Records:
        """What is kept beside them."""
        ...

    @property
    def blobs(self) -> Blobs:
        """What they name."""
        ...

    @property
    def archive(self) -> Archive | None:
        """The runs as they are stored."""
        ...


def archive_of(stores: Kept) -> Archive:
    """The archive of ``stores``. Raises ``UsageError`` where there is none."""
    if stores.archive is None:
        raise UsageError("these stores keep no archive: runs in them cannot be exported, verified or pruned")
    return stores.archive
