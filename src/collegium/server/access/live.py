"""What a principal may look on at while it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final

from collegium.domain.errors import NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.message import check_topic
from collegium.domain.principal import HOST, Principal
from collegium.server.access.reach import Reach
from collegium.server.live.audience import Audience
from collegium.server.live.change import Change, Taker
from collegium.server.live.hub import Hub
from collegium.server.live.watch import Follower

LISTS: Final = ("runs", "approvals", "workers")
_OURS: Final = ("tasks.", "control.", "views.")
"""Topics between processes."""


class LiveAccess:
    """The runs, lists and topics of the principal's tenant, as they change.

    Args:
        hub: Where they are read, once for all who look on.
    """

    def __init__(self, hub: Hub, principal: Principal) -> None:
        self._hub = hub
        self._principal = principal
        self._reach = Reach(hub.app, principal)

    @property
    def audience(self) -> Audience:
        """How many sockets and streams there are in this process."""
        return self._hub.audience

    async def follow(self, run: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Events of a run with ``seq > after`` in order, each once: those that are there, then those that come.

        It ends when the run has ended and all is delivered; a run that waits for a person is waited for. Raises
        ``NotFound`` for an unknown run and for another tenant's, ``NotAllowed``.
        """
        news = asyncio.Event()
        with await self.place(run, after, news.set) as follower:
            while True:
                news.clear()
                for frame in await follower.take():
                    yield frame.event
                if follower.is_done:
                    return
                if follower.is_up:
                    await news.wait()

    async def changes(self, *topics: str) -> AsyncGenerator[Change, None]:
        """Changes of lists and topics from now on, the latest state of each thing; of lists first what is there now.

        Topics: ``runs``, ``approvals``, ``workers`` (lists), ``runs.<id>.deltas`` (what models are saying),
        ``runs.<id>.board``, ``agents.<name>.inbox`` and other topics that may be read (messages of this tenant).
        Whoever takes them slowly is told the latest state of each thing only. Goes on until it is closed. Raises
        ``UsageError`` for what is no such topic, ``NotFound``, ``NotAllowed``.
        """
        news = asyncio.Event()
        taker = Taker(news.set)
        with ExitStack() as stack:
            for topic in topics:
                stack.enter_context(await self.join(topic, taker))
            while True:
                await news.wait()
                news.clear()
                for told in taker.take():
                    yield told.change

    async def place(self, run: str, after: int, notify: Callable[[], None]) -> AbstractContextManager[Follower]:
        """A place in ``run`` behind event ``after``, as long as the block lasts that is entered with it.

        ``notify`` is called when there may be news. Raises as ``follow`` does.
        """
        self._principal.require("runs:read")
        head = await self._hub.app.stores.journal.head(run)
        if head is None or head.tenant != self._principal.tenant:
            raise NotFound(f"there is no run {run}", run=run)
        await self._reach.run(run)
        return self._hub.follow(head, after, notify)

    async def join(self, topic: str, taker: Taker) -> AbstractContextManager[None]:
        """Offers ``taker`` the changes of ``topic``, as long as the block lasts that is entered with it.

        Raises as ``changes`` does.
        """
        await self._check(topic)
        return self._hub.take(topic, self._principal.tenant, taker, projects=self._reach.projects)

    async def _check(self, topic: str) -> None:
        if topic == "workers":
            self._principal.require(HOST)  # its frames are made once for all, and say where workers run
            return
        if topic in LISTS:
            self._principal.require("runs:read")
            return
        self._principal.require("topics:read")
        check_topic(topic)
        if topic.startswith(_OURS) or topic.endswith(".events"):
            raise UsageError(f"{topic} cannot be looked at: it is no topic of messages that may be read", topic=topic)
        if (run := run_of(topic)) is not None:
            self._principal.require("runs:read")
            head = await self._hub.app.stores.journal.head(run)
            if head is None or head.tenant != self._principal.tenant:
                raise NotFound(f"there is no run {run}", run=run)
            await self._reach.run(run)
        else:
            self._reach.all()


def run_of(topic: str) -> str | None:
    """The run that ``runs.<id>.<what>`` is about; None for other topics."""
    parts = topic.split(".")
    return parts[1] if len(parts) == 3 and parts[0] == "runs" else None
