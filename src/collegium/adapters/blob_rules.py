"""Blobs and the names by which others hold them, alike in every store."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

from collegium.domain.errors import CollegiumError

LIMIT_BYTES: Final = 512 * 1024 * 1024
"""Size of the largest blob."""
_MAX_LOST: Final = 100_000
_NAME: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
Names = set[tuple[str, str]]
"""Tenant and SHA-256 of blobs."""
Elsewhere = Callable[[], Awaitable[Names]]
"""Gives the blobs that other stores name and that it has not given before."""


async def nowhere() -> Names:
    """No names: there is no other store that could name a blob."""
    return set()


def names_in(text: bytes) -> Iterator[str]:
    """What may be names of blobs in a stored text."""
    return (name.decode() for name in _NAME.findall(text))


def take_readings(readings: Sequence[tuple[str, str, str | None]], named: Names) -> tuple[tuple[str, str], ...]:
    """Tenant and key of the readings of files that nobody can read again; adds to ``named`` what the others name.

    How a file was read is of use as long as somebody may read the file again: its blob's name begins the key.
    """
    stale = tuple((tenant, key) for tenant, key, _ in readings if (tenant, key[:64]) not in named)
    named.update((tenant, blob) for tenant, key, blob in readings if (tenant, key[:64]) in named and blob)
    return stale


class Gathered:
    """The blobs of a writer's transaction.

    Nobody waits for a put, so its failure is remembered by the blob's name: whatever names a lost blob is refused until
    it is put again. An event can so never be stored without the blobs it names.
    """

    def __init__(self) -> None:
        self.gathered: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._lost: dict[tuple[str, str], CollegiumError] = {}
        self._unreported: CollegiumError | None = None

    def gather(self, tenant: str, name: str, data: bytes, *, stored_us: int) -> None:
        """Takes the blob for this transaction."""
        self.gathered[tenant, name] = (data, stored_us)

    def lose(self, tenant: str, name: str, error: CollegiumError) -> None:
        """Takes note that a blob was put and is not stored."""
        self._unreported = error
        self._lost[tenant, name] = error
        if len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]

    def check(self, tenant: str, texts: Iterable[bytes]) -> None:
        """Raises the error by which a blob was lost that is named in ``texts``."""
        if not self._lost:
            return
        for text in texts:
            for name in names_in(text):
                key = (tenant, name)
                if key in self._lost and key not in self.gathered:
                    error = self._lost[key]
                    raise type(error)(error.message, **error.fields)

    def report(self) -> CollegiumError | None:
        """The error of puts that failed since the last report."""
        error, self._unreported = self._unreported, None
        return error

    def ended(self, *, is_committed: bool) -> None:
        """Forgets what was gathered; what is stored is no longer lost."""
        for key in self.gathered if is_committed and self._lost else ():
            self._lost.pop(key, None)
        self.gathered.clear()
