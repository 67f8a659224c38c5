"""The bus in an SQLite file of its own: never fsynced, since work topics are rebuilt from heads."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules, rank_of
from collegium.adapters.doorbells import Doorbells
from collegium.adapters.rows import Entropy
from collegium.adapters.sqlite import bus_statements as sql
from collegium.adapters.sqlite.scratch import ScratchFile
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.errors import StoreError
from collegium.domain.message import Claim, Letter, Message
from collegium.ports import Clock

_TRIM_EVERY = 128
_TRY_AGAIN_S = 0.01


class SqliteBus:
    """Implements ``Bus``. Messages outlive the process; a power cut may take the newest ones, or all of them.

    A group that claims from a topic for the first time begins with the messages that no group has settled yet; from
    then on every message waits for each group of its topic. Several processes of one machine may use the file; they
    wake each other through a folder of named pipes beside it. Where there are none, they look every ``rules.poll_s``.

    Raises:
        StoreError: the file cannot be opened or made.
    """

    def __init__(
        self, path: Path, clock: Clock, *, rules: BusRules = DEFAULT_RULES, entropy: Entropy = os.urandom
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._name = entropy(8).hex()
        self._claims = 0
        self._signals = TopicSignals(clock)
        self._bells = Doorbells(path.with_name(path.name + ".waiting"), self._name)
        self._file = ScratchFile(path, sql.SCHEMA, version=sql.VERSION)
        self._groups: set[tuple[str, str]] = set()
        self._published: dict[str, int] = {}
        self._poller: asyncio.Task[None] | None = None
        self._heard = (0, 0)
        self._last_seq = 0
        self._hear()

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new."""
        return sum([await self._publish(message) for message in messages])

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic by ``message.seq``, with ``seq > after``."""
        return ()

    async def revive(self, letter: Letter) -> bool:
        """Whether the dead letter was there; it waits for its group again, as if it were new."""
        return False

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics that have messages, groups or dead letters, in order, with ``name > after``."""
        return ()

    async def _publish(self, message: Message) -> bool:
        now = self._now()
        body = msgspec.json.encode(message.body).decode()
        row = (message.topic, message.id, message.tenant, body, message.priority, now)
        rank = rank_of(message, now, self._rules)
        count = self._published[message.topic] = self._published.get(message.topic, 0) + 1
        is_trimmed = count % _TRIM_EVERY == 0

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(sql.PUBLISH, row)
            if cursor.rowcount != 1:
                return False
            connection.execute(sql.QUEUE, (cursor.lastrowid, rank, message.topic))
            if is_trimmed:
                connection.execute(sql.TRIM, (message.topic, message.topic, self._rules.keep))
                connection.execute(sql.EXPIRE, (now - self._rules.keep_s,))
            return True

        if len(self._published) > 10_000:
            self._published.clear()
        is_new = await self._file.write(work)
        if is_new:
            self._signals.happened(message.topic)
            self._bells.ring()
        return is_new

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, urgent ones first, then oldest, hidden from ``group`` for the hide time."""
        topics = list(dict.fromkeys(topics))
        self._show(topics)
        self._signals.looked(topics)
        if limit < 1 or not topics:
            return ()
        await self._register(topics, group)
        find = sql.ready(len(topics))
        values = [value for topic in topics for value in (topic, group, limit)] + [limit]
        if not self._file.read(lambda connection: connection.execute(find, values).fetchone()):
            return ()
        until_s = self._now() + self._rules.hide_s

        def work(connection: sqlite3.Connection) -> list[Claim]:
            claims = []
            for seq, deliveries in connection.execute(find, values).fetchall():
                self._claims += 1
                token = f"{self._name}.{self._claims}"
                connection.execute(sql.CLAIM, (until_s, token, seq, group))
                row = connection.execute(sql.MESSAGE, (seq,)).fetchone()
                message = _message(row, deliveries=deliveries + 1)
                claims.append(Claim(message=message, group=group, token=token))
            return claims

        return tuple(await self._file.write(work))

    async def _register(self, topics: Sequence[str], group: str) -> None:
        new = [topic for topic in topics if (topic, group) not in self._groups]
        if not new:
            return

        def work(connection: sqlite3.Connection) -> None:
            for topic in new:
                if connection.execute(sql.JOIN, (topic, group)).rowcount == 1:
                    connection.execute(sql.CATCH_UP, (group, self._rules.aging_s, topic))

        await self._file.write(work)
        self._groups.update((topic, group) for topic in new)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the claimed message, or gives it back after a delay. A stale claim changes nothing."""
        key = (claim.message.seq, claim.group, claim.token)
        if requeue_after_s is None:

            def remove(connection: sqlite3.Connection) -> None:
                if connection.execute(sql.SETTLE, key).rowcount == 1:
                    connection.execute(sql.SETTLED, (claim.message.seq,))

            await self._file.write(remove)
            return
        until_s = self._now() + requeue_after_s
        await self._file.write(lambda connection: connection.execute(sql.REQUEUE, (until_s, *key)))
        self._show([claim.message.topic])
        self._signals.stir(claim.message.topic)
        self._bells.ring()

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""
        self._hear()
        self._signals.looked([topic])
        rows = self._file.read(lambda connection: connection.execute(sql.READ, (topic, after, limit)).fetchall())
        return tuple(_message(row) for row in rows)

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed, those with a delay included."""
        now = self._now()

        def count(connection: sqlite3.Connection) -> int:
            return sum(connection.execute(sql.DEPTH, (t, t, now, t)).fetchone()[0] for t in dict.fromkeys(topics))

        return self._file.read(count)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``."""
        if self._poller is None or self._poller.done():
            self._bells.listen(self._rung)
            self._poller = asyncio.ensure_future(self._poll())
        return await self._signals.news(topics, timeout_s, due_in_s=lambda: self._show(topics))

    async def aclose(self) -> None:
        """Closes the file; twice is harmless."""
        if self._poller is not None:
            self._poller.cancel()
        self._bells.close()
        self._file.close()

    def _now(self) -> float:
        # The time of day: other processes have to understand it. It hides and ranks; it decides nothing.
        return self._clock.now().timestamp()

    def _show(self, topics: Sequence[str]) -> float:
        """Shows again what was hidden long enough; returns the seconds until the next message comes back."""
        self._hear()
        now = self._now()
        due_s = self._file.read(lambda connection: _next_due_s(connection, topics))
        if due_s > now:
            return due_s - now

        def show(connection: sqlite3.Connection) -> list[str]:
            return [topic for topic in topics if connection.execute(sql.SHOW, (topic, now)).rowcount]

        shown = self._file.try_write(show)
        if shown is None:
            return _TRY_AGAIN_S
        for topic in shown:
            self._signals.happened(topic)
        return self._file.read(lambda connection: _next_due_s(connection, topics)) - now

    def _hear(self) -> None:
        """Passes on what other processes have published or given back since the last call."""
        heard = self._file.read(lambda c: (self._file.generation, c.execute("PRAGMA data_version").fetchone()[0]))
        if heard == self._heard:
            return
        if heard[0] != self._heard[0]:
            self._groups.clear()
            self._last_seq = 0
        self._heard = heard
        claimed_from = {topic for topic, _ in self._groups} & self._signals.topics

        def find(connection: sqlite3.Connection) -> tuple[int, set[str]]:
            (last_seq,) = connection.execute(sql.LAST_SEQ).fetchone()
            news = {topic for (topic,) in connection.execute(sql.NEW_TOPICS, (self._last_seq,))}
            news |= {topic for topic in claimed_from if connection.execute(sql.IS_READY, (topic,)).fetchone()}
            return last_seq, news

        self._last_seq, news = self._file.read(find)
        for topic in news:
            self._signals.happened(topic)
        for topic in claimed_from - news:
            self._signals.stir(topic)  # something may come back sooner than its waiters know

    async def _poll(self) -> None:
        while True:
            is_woken = self._bells.listen(self._rung)
            await self._clock.sleep(self._rules.look_s if is_woken else self._rules.poll_s)
            if not self._signals.topics:
                return
            self._hear()

    def _rung(self) -> None:
        if self._signals.topics:
            with suppress(StoreError):  # whoever waits is told when it looks for itself
                self._hear()


def _next_due_s(connection: sqlite3.Connection, topics: Sequence[str]) -> float:
    rows = (connection.execute(sql.NEXT, (topic,)).fetchone() for topic in topics)
    return min((row[0] for row in rows if row is not None), default=math.inf)


def _message(row: tuple[int, str, str, str, str, int], *, deliveries: int = 0) -> Message:
    seq, topic, id_, tenant, body, priority = row
    return Message(
        id=id_,
        topic=topic,
        tenant=tenant,
        body=msgspec.json.decode(body),
        priority=priority,
        seq=seq,
        deliveries=deliveries,
    )
