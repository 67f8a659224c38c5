"""What is ready to be sent: answers that were made a moment ago, of a store in which nothing has happened since.

Where a store can tell that nobody has stored anything, asking for that is all that a read costs which was made before:
a few microseconds where the store is a file (``Stores.version``), one trip for all who wait where it is a server
(``Stores.moment``). Where it cannot, or where much is stored, every answer is made as it always is.
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
VAIN: Final = 8
"""After so many trips of which each found another moment, nothing is asked for ``REST``: it would only cost more."""
REST: Final = timedelta(milliseconds=100)


class Ready:
    """The answers of one process; all of them are dropped as soon as anything was stored by anybody."""

    def __init__(self, app: Collegium) -> None:
        self._app = app
        self._version: object = None
        self._is_known = False
        self._until: datetime | None = None
        self._kept: dict[Hashable, Any] = {}
        self._going: dict[Hashable, asyncio.Task[Any]] = {}
        self._size_bytes = 0
        self._trip: asyncio.Task[None] | None = None
        self._next_trip: asyncio.Task[None] | None = None
        self._vain = 0

    async def kept(self, place: Hashable) -> Any:
        """What was made for this place of the store as it is; None where nothing was. Raises ``StoreError``."""
        if not self._is_known:
            moment = self._app.stores.moment
            if moment is None:
                self._look()
            elif self._is_at_rest():
                return None
            else:
                await self._ask(moment)
        return self._kept.get(place)

    async def made(self, place: Hashable, make: Callable[[], Awaitable[T]], *, size: Callable[[T], int | None]) -> T:
        """What ``make`` gives now, for all who ask for it meanwhile; to be asked for where nothing was kept.

        Args:
            place: What it is, and all that it depends on besides the store: above all, who may see it.
            make: Makes it; what it raises is raised each time.
            size: Bytes of what was made; None for what is not to be kept.
        """
        if self._version is None:
            return await make()
        going: asyncio.Task[T] | None = self._going.get(place)
        if going is None:
            going = asyncio.ensure_future(self._make(place, make, size, self._kept, self._going))
            self._going[place] = going
        # Whoever goes away leaves it to those who wait for the same.
        return await asyncio.shield(going)

    async def _make(
        self,
        place: Hashable,
        make: Callable[[], Awaitable[T]],
        size: Callable[[T], int | None],
        kept: dict[Hashable, Any],
        going: dict[Hashable, asyncio.Task[Any]],
    ) -> T:
        try:
            made = await make()
        finally:
            del going[place]
        # What was stored meanwhile may be in it or not: it is kept with what was made before that, and goes with it.
        size_bytes = size(made)
        if size_bytes is not None and kept is self._kept and len(kept) < MOST:
            self._size_bytes += size_bytes
            if self._size_bytes <= MOST_BYTES:
                kept[place] = made
        return made

    def _look(self) -> None:
        """Asks a store at hand, once in a turn of the event loop: whoever is answered in it had asked before."""
        self._stand(self._app.stores.version())
        self._is_known = True
        asyncio.get_running_loop().call_soon(self._forget)

    def _forget(self) -> None:
        self._is_known = False

    async def _ask(self, moment: Callable[[], Awaitable[Hashable]]) -> None:
        """Asks a store that is a trip away; the trip begins after all who wait for it have asked."""
        if self._next_trip is None:
            self._next_trip = asyncio.ensure_future(self._travel(moment, self._trip))
        await asyncio.shield(self._next_trip)

    async def _travel(self, moment: Callable[[], Awaitable[Hashable]], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        self._trip, self._next_trip = self._next_trip, None
        self._stand(await moment())

    def _stand(self, version: Hashable | None) -> None:
        """Drops everything if anything was stored, or time has passed."""
        now = self._app.now()
        self._vain = 0 if version == self._version else self._vain + 1
        if version != self._version or self._until is None or not now < self._until:
            self._version, self._until = version, now + FRESH
            self._kept, self._going, self._size_bytes = {}, {}, 0

    def _is_at_rest(self) -> bool:
        """Whether so much is stored now that asking would be in vain; then nothing is kept either."""
        if self._vain < VAIN:
            return False
        now = self._app.now()
        if self._version is not None:
            self._version, self._until = None, now + REST
            self._kept, self._going, self._size_bytes = {}, {}, 0
        if self._until is not None and now < self._until:
            return True
        self._vain = VAIN - 2  # the first trip finds another moment in any case
        return False
