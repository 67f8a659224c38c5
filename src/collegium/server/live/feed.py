"""Feeds: a list or a topic, read once for all who look at it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from collegium.app import Collegium
from collegium.bus.feed import follow
from collegium.domain.errors import CollegiumError, NotFound, StoreError
from collegium.domain.head import LIVE, Head, HeadQuery
from collegium.domain.message import Message
from collegium.server.live.change import Change, OpenQuestion, Posting, RunChange, Taker, Token, Told

Projects = frozenset[str] | None

LOOK_S: Final = 1.0
"""So often a list is read without any hint."""
PACE_S: Final = 0.25
"""So often it is read at most."""
NEWEST: Final = 50
MOST_LIVE: Final = 1_000
_ASKING: Final = frozenset({"waiting", "running", "queued"})
_log = logging.getLogger("collegium.live")


class Feed(ABC):
    """Tells everybody who takes it the same.

    Attributes:
        takers: Who takes it.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.takers: set[Taker] = set()
        self._going: asyncio.Task[None] | None = None

    def join(self, taker: Taker) -> None:
        """Tells ``taker`` what is there, and from now on what changes."""
        self.takers.add(taker)
        if self._going is None:
            self._going = asyncio.create_task(self._go_on())

    def leave(self, taker: Taker) -> None:
        """Tells it nothing more; twice is harmless."""
        self.takers.discard(taker)
        taker.drop(self.topic)

    def hint(self) -> None:  # noqa: B027 - most feeds need none
        """Something has moved."""

    async def end(self) -> None:
        """Reads no more."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)

    def tell(self, key: str, value: object) -> None:
        """Tells everybody how one thing is now."""
        told = Told(Change(topic=self.topic, key=key, value=value))
        for taker in tuple(self.takers):
            taker.offer(told)

    @abstractmethod
    async def read(self) -> None:
        """Reads, tells what is new, and returns when it is time to do so again. Raises ``StoreError``."""

    async def _go_on(self) -> None:
        is_away = False
        while True:
            try:
                await self.read()
                is_away = False
            except CollegiumError as error:
                if not is_away:
                    _log.warning("%s cannot be read now: %s", self.topic, error)
                is_away = True
                await asyncio.sleep(LOOK_S)


class Listing(Feed):
    """A list that is read again and again; what differs is told.

    Attributes:
        tells_gone: Whether it is told that something is in the list no more.
    """

    tells_gone = True

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self._known: dict[str, Any] = {}
        self._hinted = asyncio.Event()

    def join(self, taker: Taker) -> None:
        """Tells ``taker`` what is known already too."""
        for key, value in self._known.items():
            taker.offer(Told(Change(topic=self.topic, key=key, value=value)))
        super().join(taker)

    def hint(self) -> None:
        """Reads soon."""
        self._hinted.set()

    async def read(self) -> None:
        """Tells what differs from the time before."""
        self._hinted.clear()
        now = await self.items()
        for key in self._known.keys() - now.keys() if self.tells_gone else ():
            self.tell(key, None)
        for key, value in now.items():
            if self._known.get(key) != value:
                self.tell(key, value)
        self._known = dict(now)
        await asyncio.sleep(PACE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S - PACE_S):
                await self._hinted.wait()

    @abstractmethod
    async def items(self) -> Mapping[str, Any]:
        """The list as it is now, by key."""


class RunsFeed(Listing):
    """The runs of a tenant, or of some projects of it: all that have not ended, and the newest of the others."""

    tells_gone = False

    def __init__(self, app: Collegium, tenant: str, projects: Projects) -> None:
        super().__init__("runs")
        self._projects = projects
        self._app = app
        self._tenant = tenant

    async def items(self) -> Mapping[str, RunChange]:
        """Where they stand; those that have ended since the last time are looked at by themselves."""
        heads = await live_heads(self._app, self._tenant, self._projects)
        newest = HeadQuery(tenant=self._tenant, projects=self._projects, limit=NEWEST, may_lag=True)
        heads.update({head.run: head for head in await self._app.stores.journal.heads(newest)})
        for run in self._known.keys() - heads.keys():
            if self._known[run].status in LIVE and (head := await self._app.stores.journal.head(run)) is not None:
                heads[run] = head
        return {
            run: RunChange(run_id=run, status=head.status, seq=head.seq)
            for run, head in heads.items()
            if run.startswith("run_")
        }


class QuestionsFeed(Listing):
    """The open questions of a tenant, or of some projects; only runs are looked into in which something was decided."""

    def __init__(self, app: Collegium, tenant: str, projects: Projects) -> None:
        super().__init__("approvals")
        self._projects = projects
        self._app = app
        self._tenant = tenant
        self._read: dict[str, tuple[int, dict[str, OpenQuestion]]] = {}

    async def items(self) -> Mapping[str, OpenQuestion]:
        """The questions by their ids."""
        heads = await live_heads(self._app, self._tenant, self._projects)
        read: dict[str, tuple[int, dict[str, OpenQuestion]]] = {}
        for run, head in heads.items():
            if head.status not in _ASKING:
                continue
            before = self._read.get(run)
            is_same = before is not None and before[0] == head.deciding_seq
            read[run] = before if before is not None and is_same else (head.deciding_seq, await self._questions(run))
        self._read = read
        return {key: question for _, questions in read.values() for key, question in questions.items()}

    async def _questions(self, run: str) -> dict[str, OpenQuestion]:
        try:
            state = await self._app.state(run, tenant=self._tenant)
        except (NotFound, StoreError) as error:  # it must not hide the others
            _log.warning("the questions of %s cannot be read: %s", run, error)
            return {}
        return {
            asked.id: OpenQuestion(
                approval=asked.id,
                run_id=run,
                kind=asked.request.kind,
                question=asked.request.question,
                requested_at=asked.requested_at,
                expires_at=asked.request.expires_at,
            )
            for asked in (state.open_approvals if state.finished is None else ())
        }


class WorkersFeed(Listing):
    """The cards of the workers."""

    def __init__(self, app: Collegium) -> None:
        super().__init__("workers")
        self._app = app

    async def items(self) -> Mapping[str, Any]:
        """The cards by worker."""
        return {card.worker: card for card in await self._app.fleet.workers()}


class TopicFeed(Feed):
    """The messages of one tenant on a topic of the bus, from now on."""

    def __init__(self, app: Collegium, topic: str, tenant: str) -> None:
        super().__init__(topic)
        self._app = app
        self._tenant = tenant

    async def read(self) -> None:
        """Tells what is published."""
        async for message in follow(self._app.stores.bus, self.topic, since=self._app.now()):
            if message.tenant == self._tenant:
                self.tell(*self.shown(message))

    def shown(self, message: Message) -> tuple[str, object]:
        """Its key and value."""
        return message.id, Posting(id=message.id, seq=message.seq, at=message.at, body=message.body)


class TokensFeed(TopicFeed):
    """What models are saying in one run."""

    @property
    def run(self) -> str:
        """The run."""
        return self.topic.removeprefix("runs.").removesuffix(".deltas")

    def shown(self, message: Message) -> tuple[str, object]:
        """The piece; the latest of a task takes the place of those before it."""
        token = msgspec.convert(message.body, Token)
        return token.task, token


async def live_heads(app: Collegium, tenant: str, projects: Projects) -> dict[str, Head]:
    """The runs of ``tenant`` and of these projects that have not ended, the newest first."""
    query = HeadQuery(tenant=tenant, projects=projects, statuses=LIVE, limit=MOST_LIVE, may_lag=True)
    return {head.run: head for head in await app.stores.journal.heads(query)}
