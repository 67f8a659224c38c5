"""The fleet: which workers there are over a store, and orders to them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches

from collegium.domain.errors import StoreError, TopicFull, UnknownName, UsageError
from collegium.domain.ids import Ids
from collegium.domain.run import RunState
from collegium.domain.worker import WorkerCard
from collegium.ports import Bus, Directory
from collegium.runtime.orders import DRAIN, LOOK, order

MIN_PART = 4


class Fleet:
    """Sees the workers' cards, and tells workers what to do.

    Args:
        directory: Where cards are shown; None where nobody shows any.
    """

    def __init__(self, directory: Directory | None, bus: Bus, *, ids: Ids) -> None:
        self._directory = directory
        self._bus = bus
        self._ids = ids

    @property
    def is_seen(self) -> bool:
        """Whether workers show cards here at all."""
        return self._directory is not None

    async def workers(self) -> tuple[WorkerCard, ...]:
        """The cards of all workers, by id. Raises ``StoreError``."""
        return () if self._directory is None else await self._directory.cards()

    async def find(self, text: str) -> WorkerCard:
        """The worker whose id is ``text`` or ends with it. Raises ``UnknownName``, and ``UsageError`` for several."""
        cards = await self.workers()
        found = [c for c in cards if c.worker == text or (len(text) >= MIN_PART and c.worker.endswith(text))]
        if len(found) == 1:
            return found[0]
        names = [c.worker for c in cards]
        if found:
            raise UsageError(f"{len(found)} workers have ids that end with {text!r}: give more of it", worker=text)
        near = get_close_matches(text, names, n=3, cutoff=0.4) or names[:5]
        there = f"; there are {', '.join(near)}" if near else ", nor any other over this store"
        raise UnknownName(f"there is no worker {text!r}{there}: `collegium workers ls` lists them", worker=text)

    async def drain(self, worker: str, *, by: str = "local", tenant: str = "default") -> None:
        """Tells a worker process to end what it does and to exit; others go on with what it leaves."""
        await order(self._bus, worker, self._ids, tenant=tenant, order=DRAIN, by=by)

    async def look(self, state: RunState) -> None:
        """Tells the workers of a run that somebody has decided on it; they would see it within a second anyway."""
        wanted = {t.worker for t in state.tasks.values() if t.worker is not None}
        with suppress(StoreError, TopicFull):
            for card in await self.workers() if wanted else ():
                if card.worker in wanted:
                    await order(self._bus, card.worker, self._ids, tenant=state.tenant, order=LOOK, run=state.id)


def takers(cards: Iterable[WorkerCard], capability: str) -> tuple[WorkerCard, ...]:
    """The workers that take tasks of ``capability`` now."""
    return tuple(c for c in cards if c.state == "ready" and capability in c.capabilities)
