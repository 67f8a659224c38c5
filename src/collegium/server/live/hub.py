"""The hub: everything that is looked at live in this process is read once, for however many who look on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, StoreUnavailable
from collegium.domain.head import Head
from collegium.runtime.hints import hear
from collegium.runtime.wishes import COUNTS_S, wish
from collegium.server.live.audience import Audience
from collegium.server.live.change import Taker
from collegium.server.live.feed import Feed, Projects, QuestionsFeed, RunsFeed, TokensFeed, TopicFeed, WorkersFeed
from collegium.server.live.snapshots import Snapshots
from collegium.server.live.watch import Follower, Watch

AWAY_S: Final = 1.0
_log = logging.getLogger("collegium.live")


class Hub:
    """Reads what is looked at, tells those who look, and stops when nobody does any more.

    It checks nobody's rights: ``access.live`` does, and is the only one to use it.

    Args:
        app: What is looked at.

    Attributes:
        audience: How many sockets and streams there are.
        snapshots: Runs as they stood when they were last looked at.
    """

    def __init__(self, app: Collegium) -> None:
        self.app = app
        self._watches: dict[str, Watch] = {}
        self._feeds: dict[tuple[str, str, Projects], Feed] = {}
        self._hearing: asyncio.Task[None] | None = None
        self._wishing: asyncio.Task[None] | None = None
        self._wishes_anew = asyncio.Event()
        self._wished = 0
        self._ending: set[asyncio.Task[None]] = set()
        self.audience = Audience()
        self.snapshots = Snapshots(app)

    @property
    def watched(self) -> int:
        """How many runs, lists and topics are being read."""
        return len(self._watches) + len(self._feeds)

    @contextmanager
    def follow(self, head: Head, after: int, notify: Callable[[], None]) -> Iterator[Follower]:
        """A place in the run of ``head``, behind event ``after``, as long as the block lasts."""
        watch = self._watches.get(head.run)
        if watch is None:
            watch = self._watches[head.run] = Watch(self.app.stores.journal, head)
            self._listen()
        elif head.seq > watch.head:
            watch.hint(head.seq)
        follower = Follower(watch, after, notify)
        watch.follow(follower)
        try:
            yield follower
        finally:
            watch.leave(follower)
            if not watch.is_followed and self._watches.get(head.run) is watch:
                del self._watches[head.run]
                self._end(watch)

    @contextmanager
    def take(self, topic: str, tenant: str, taker: Taker, *, projects: Projects = None) -> Iterator[None]:
        """Offers ``taker`` what ``tenant`` is to see of a list or topic, as long as the block lasts.

        Of lists of runs and questions, only those of ``projects``; None is all of them.
        """
        place = (topic, tenant, projects)
        feed = self._feeds.get(place)
        if feed is None:
            feed = self._feeds[place] = self._feed(topic, tenant, projects)
            self._listen()
            if isinstance(feed, TokensFeed):
                self._wishes_anew.set()
        feed.join(taker)
        try:
            yield
        finally:
            feed.leave(taker)
            if not feed.takers and self._feeds.get(place) is feed:
                del self._feeds[place]
                self._end(feed)

    async def aclose(self) -> None:
        """Reads nothing more; streams end, so that those who look on come again elsewhere."""
        watches, feeds = tuple(self._watches.values()), tuple(self._feeds.values())
        self._watches.clear()
        self._feeds.clear()
        over = StoreUnavailable("this server ends: come again in a moment, from the last event that you have")
        await asyncio.gather(*(watch.end(over) for watch in watches), *(feed.end() for feed in feeds))
        self._rest()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _feed(self, topic: str, tenant: str, projects: Projects) -> Feed:
        if topic == "runs":
            return RunsFeed(self.app, tenant, projects)
        if topic == "approvals":
            return QuestionsFeed(self.app, tenant, projects)
        if topic == "workers":
            return WorkersFeed(self.app)
        if topic.endswith(".deltas"):
            return TokensFeed(self.app, topic, tenant)
        return TopicFeed(self.app, topic, tenant)

    def _listen(self) -> None:
        if self._hearing is None:
            self.app.scheduler.hints.listen(self._hint)
            self._hearing = asyncio.create_task(self._hear())
            self._wishing = asyncio.create_task(self._wish())

    def _end(self, one: Watch | Feed) -> None:
        ending = asyncio.create_task(one.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._rest()

    def _rest(self) -> None:
        """Hears nothing more where nobody looks on."""
        if not self._watches and not self._feeds and self._hearing is not None:
            self.app.scheduler.hints.deaf(self._hint)
            self._hearing.cancel()
            self._hearing = None
            if self._wishing is not None:
                self._wishing.cancel()

    def _hint(self, run: str, seq: int) -> None:
        watch = self._watches.get(run)
        if watch is not None:
            watch.hint(seq)
        for feed in self._feeds.values():
            feed.hint()

    async def _wish(self) -> None:
        """Tells other processes, again and again, that somebody looks on here."""
        while True:
            with suppress(CollegiumError):
                self._wished += 1
                id_ = f"{self.app.worker.id}/{self._wished}"
                await wish(self.app.stores.bus, id_=id_, runs=self._heard(), now=self.app.now())
            self._wishes_anew.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(COUNTS_S / 3):
                    await self._wishes_anew.wait()

    def _heard(self) -> list[str]:
        """The runs in which somebody wants to hear what models say."""
        return [feed.run for feed in self._feeds.values() if isinstance(feed, TokensFeed)]

    async def _hear(self) -> None:
        """Hears what other processes tell of runs that move."""
        is_away = False
        while True:
            try:
                async for moved in hear(self.app.stores.bus, now=self.app.now):
                    is_away = False
                    for run, seq in moved.items():
                        self._hint(run, seq)
            except (CollegiumError, OSError) as error:
                if not is_away:
                    _log.info("others cannot be heard, runs are looked at once a second: %s", error)
                is_away = True
                await asyncio.sleep(AWAY_S)
