"""Topics of the bus as one principal may read and write them.

Topics are shared by all tenants; their messages are not. What is read is filtered here, by the tenant that a message
was published for. The ids of messages are kept apart by tenant too: a message of one never stands in for another's.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec

from collegium.app import Collegium
from collegium.domain.chat import Json
from collegium.domain.errors import NotAllowed, NotFound
from collegium.domain.message import Letter, Message, check_topic
from collegium.domain.principal import HOST, Principal
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach

RESERVED: Final = ("tasks.", "control.", "views.", "answers.", "replies.", "runs.", "agents.", "~")
"""Beginnings of the topics that processes and agents keep for themselves: nobody publishes there by the API."""
_HIDDEN: Final = ("control.", "views.", "answers.", "replies.", "~")
"""Those that cannot be looked at either, not even as dead letters."""
_CHUNK: Final = 1_000
_MOST_CHUNKS: Final = 10
"""So many messages of others are passed over in one request; its answer says where to go on."""


class TopicShown(msgspec.Struct, frozen=True, kw_only=True):
    """A topic, and how many messages of all tenants wait there."""

    topic: str
    waiting: int


class MessageShown(msgspec.Struct, frozen=True, kw_only=True):
    """A message; ``seq`` is its place in the topic."""

    seq: int
    id: str
    topic: str
    at: datetime | None
    priority: int
    expires_at: datetime | None
    body: Json


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the message was new; one whose id waits already is not published again."""

    topic: str
    id: str
    is_new: bool


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that ``group`` could not deal with, and why."""

    message: MessageShown
    group: str
    reason: str
    died_at: datetime
    deliveries: int


class Revived(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters were given back."""

    topic: str
    revived: tuple[int, ...]


class TopicAccess:
    """Messages of the principal's tenant; those of others are not there."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._bus = app.stores.bus
        self._principal = principal
        self._tenant = principal.tenant
        self._reach = Reach(app, principal)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[TopicShown]:
        """All topics of the installation by name: their names are those of all tenants, so it needs ``host``."""
        self._principal.require("topics:read")
        self._principal.require(HOST)
        self._reach.all()
        behind = place("topics", after)
        names = await self._bus.topics(str(behind[0]) if behind else "", limit + 1)
        items = [TopicShown(topic=name, waiting=await self._bus.depth([name])) for name in names[:limit]]
        return Page(items=items, next=cursor("topics", items[-1].topic) if len(names) > limit else None)

    async def publish(
        self,
        topic: str,
        body: Json,
        *,
        id: str | None = None,  # noqa: A002  as in the message
        priority: int = 2,
        delay_s: float = 0.0,
    ) -> Published:
        """Publishes a message. Raises ``NotAllowed`` for a topic that is not for everybody, ``TopicFull``."""
        self._principal.require("topics:write")
        self._reach.all()
        check_topic(topic)
        if topic.startswith(RESERVED) or topic.endswith(".events"):
            raise NotAllowed(f"nobody publishes on {topic} by the API: take a name of your own, as orders.new")
        name = id or self._app.ids.new("msg")
        message = Message(id=self._kept(name), topic=topic, tenant=self._tenant, body=body, priority=priority)
        is_new = await self._bus.publish(message, delay_s=delay_s) > 0
        return Published(topic=topic, id=name, is_new=is_new)

    async def read(
        self, topic: str, *, after: int = 0, since: datetime | None = None, limit: int = 50
    ) -> tuple[tuple[MessageShown, ...], int]:
        """Messages with ``seq > after`` in order, and the place to go on from, which there always is."""
        await self._check(topic)
        found: list[MessageShown] = []
        for _ in range(_MOST_CHUNKS):
            chunk = await self._bus.read(topic, after, _CHUNK, since=since)
            for message in chunk:
                if message.tenant == self._tenant:
                    found.append(self._shown(message))
                after = message.seq
                if len(found) == limit:
                    return tuple(found), after
            if len(chunk) < _CHUNK:
                break
        return tuple(found), after

    async def letters(self, topic: str, *, after: str | None = None, limit: int = 50) -> Page[DeadLetter]:
        """Dead letters of a topic in order."""
        await self._check(topic, is_dead=True)
        behind = place("letters", after)
        start = behind[0] if behind else 0
        mine, last = await self._mine(topic, start if isinstance(start, int) else 0, limit)
        return Page(items=[self._letter(one) for one in mine], next=cursor("letters", last) if last else None)

    async def revive(self, topic: str, seqs: Collection[int]) -> Revived:
        """Gives dead letters back to their groups, as if they were new. Raises ``NotFound`` where there are none."""
        self._principal.require("topics:write")
        await self._check(topic, is_dead=True)
        back: list[int] = []
        for seq in sorted(set(seqs)):
            for letter in await self._bus.letters(topic, seq - 1, 20):
                is_it = letter.message.seq == seq and letter.message.tenant == self._tenant
                if is_it and await self._bus.revive(letter):
                    back.append(seq)
        if not back:
            raise NotFound(f"{topic} has no such dead letter", topic=topic)
        await noted(
            self._app, self._principal, "letters.revived", topic, rule="topics:write", details={"count": len(back)}
        )
        return Revived(topic=topic, revived=tuple(dict.fromkeys(back)))

    async def _mine(self, topic: str, after: int, limit: int) -> tuple[list[Letter], int]:
        """Letters of this tenant, and where to go on, 0 for nowhere. Letters of one message are not torn apart."""
        found: list[Letter] = []
        for _ in range(_MOST_CHUNKS):
            chunk = await self._bus.letters(topic, after, _CHUNK)
            for letter in chunk:
                if len(found) >= limit and letter.message.seq != after:
                    return found, after
                if letter.message.tenant == self._tenant:
                    found.append(letter)
                after = letter.message.seq
            if len(chunk) < _CHUNK:
                return found, 0
        return found, after

    async def _check(self, topic: str, *, is_dead: bool = False) -> None:
        """Raises ``NotAllowed`` for what nobody looks at, ``NotFound`` for the topic of another tenant's run."""
        self._principal.require("topics:read")
        check_topic(topic)
        if topic.startswith(_HIDDEN) or (topic.startswith("tasks.") and not is_dead):
            raise NotAllowed(f"{topic} cannot be looked at: it is for processes alone", topic=topic)
        if topic.startswith("runs."):
            self._principal.require("runs:read")
            run = topic.split(".")[1]
            head = await self._app.stores.journal.head(run)
            if head is None or head.tenant != self._tenant:
                raise NotFound(f"there is no run {run}", run=run)
            await self._reach.run(run)
        else:
            self._reach.all()

    def _kept(self, id: str) -> str:  # noqa: A002
        """The id on the bus; no id that may be given has a ``~``, nor has a tenant."""
        return f"{self._tenant}~{id}"

    def _shown(self, message: Message) -> MessageShown:
        return MessageShown(
            seq=message.seq,
            id=message.id.removeprefix(f"{self._tenant}~"),
            topic=message.topic,
            at=message.at,
            priority=message.priority,
            expires_at=message.expires_at,
            body=message.body,
        )

    def _letter(self, letter: Letter) -> DeadLetter:
        return DeadLetter(
            message=self._shown(letter.message),
            group=letter.group,
            reason=letter.reason,
            died_at=letter.at,
            deliveries=letter.message.deliveries,
        )
