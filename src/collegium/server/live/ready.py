"""What is ready to be sent: documents that were made a moment ago, of a store in which nothing has happened since.

Where a store can tell that nobody has stored anything (``Stores.version``), asking for that is all that a read costs
which was made before. Where it cannot, or where much is stored, every document is made as it always is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from collegium.app import Collegium

T = TypeVar("T")
FRESH: Final = timedelta(seconds=1)
"""Believed for so long: time shows in a run that goes on, and a key that was destroyed is not in the store."""
MOST: Final = 2_000
MOST_BYTES: Final = 16 * 1024 * 1024


class Ready:
    """The documents of one process; all of them are dropped as soon as anything was stored by anybody."""

    def __init__(self, app: Collegium) -> None:
        self._app = app
        self._version: object = None
        self._is_known = False
        self._until: datetime | None = None
        self._kept: dict[Hashable, Any] = {}
        self._size_bytes = 0

    def kept(self, place: Hashable) -> Any:
        """What was made for this place of the store as it is; None where nothing was."""
        if not self._is_known:
            self._look()
        return self._kept.get(place)

    async def get(self, place: Hashable, make: Callable[[], Awaitable[T]], *, size: Callable[[T], int | None]) -> T:
        """What ``make`` gave for this place, or gives now.

        Args:
            place: What it is, and all that it depends on besides the store: above all, who may see it.
            make: Makes it; what it raises is raised each time.
            size: Bytes of what was made; None for what is not to be kept.
        """
        found: T | None = self.kept(place)
        if found is not None:
            return found
        if self._version is None:
            return await make()
        kept = self._kept
        made = await make()
        # What was stored meanwhile may be in it or not: it is kept with what was made before that, and goes with it.
        size_bytes = size(made)
        if size_bytes is not None and kept is self._kept and len(kept) < MOST:
            self._size_bytes += size_bytes
            if self._size_bytes <= MOST_BYTES:
                kept[place] = made
        return made

    def _look(self) -> None:
        """Drops everything if anything was stored, or time has passed.

        Once in a turn of the event loop: whoever is answered in it had asked before it began.
        """
        version, now = self._app.stores.version(), self._app.now()
        if version != self._version or self._until is None or not now < self._until:
            self._version, self._until = version, now + FRESH
            self._kept, self._size_bytes = {}, 0
        self._is_known = True
        asyncio.get_running_loop().call_soon(self._forget)

    def _forget(self) -> None:
        self._is_known = False
