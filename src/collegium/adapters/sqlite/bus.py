"""The bus in an SQLite file of its own: never fsynced, since work topics are rebuilt from heads."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules, encoded
from collegium.adapters.doorbells import Doorbells
from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.rows import Entropy
from collegium.adapters.sqlite import bus_statements as sql
from collegium.adapters.sqlite import bus_work as work
from collegium.adapters.sqlite.bus_work import Row, row_of, to_letter, to_message
from collegium.adapters.sqlite.scratch import ScratchFile
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.errors import StoreError
from collegium.domain.message import Claim, Letter, Message, is_work
from collegium.ports import Clock

_TRIM_EVERY = 128
_PAGE_BYTES = 2_048
"""Half of the usual: most messages are small, and each writes some pages."""
_MANY_TOPICS = 10_000
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
        self,
        path: Path,
        clock: Clock,
        *,
        rules: BusRules = DEFAULT_RULES,
        entropy: Entropy = os.urandom,
        key: FileKey | None = None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._name = entropy(8).hex()
        self._claims = 0
        self._signals = TopicSignals(clock)
        self._bells = Doorbells(path.with_name(path.name + ".waiting"), self._name)
        self._file = ScratchFile(path, sql.SCHEMA, version=sql.VERSION, page_bytes=_PAGE_BYTES, key=key)
        self._groups: set[tuple[str, str]] = set()
        self._published: dict[str, int] = {}
        self._swept = 0
        self._poller: asyncio.Task[None] | None = None
        self._heard = (0, 0)
        self._last_seq = 0
        self._hear()

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new; see ``Bus``."""
        bodies = [encoded(message, self._rules) for message in messages]
        if not messages:
            return 0
        now = self._now()
        due = now + max(0.0, delay_s)
        rows = [row_of(message, body, now=now, due=due) for message, body in zip(messages, bodies, strict=True)]
        new = await self._file.write(lambda connection: self._publish(connection, rows, now))
        if new:
            for topic in {message.topic for message in messages}:
                if due > now and is_work(topic):
                    self._signals.stir(topic)
                else:
                    self._signals.happened(topic)
            self._bells.ring()
        return new

    def _publish(self, connection: sqlite3.Connection, rows: Sequence[Row], now: float) -> int:
        new = work.publish(connection, rows, now=now, rules=self._rules)
        for topic in {row[0] for row in rows} if new else ():
            count = self._published[topic] = self._published.get(topic, 0) + len(rows)
            if count >= _TRIM_EVERY:
                self._published[topic] = 0
                self._swept = work.trim(connection, topic, self._swept, now=now, rules=self._rules)
        if len(self._published) > _MANY_TOPICS:
            self._published.clear()
        return new

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, tenants in turn, hidden from ``group`` for the hide time."""
        topics = list(dict.fromkeys(topics))
        now = self._now()
        may_claim = self._look(topics, group, now)
        self._signals.looked(topics)
        if limit < 1 or not topics or not (await self._register(topics, group) or may_claim):
            return ()
        claimed = await self._file.write(
            lambda c: work.claim(c, topics, group, limit, now=now, token=self._token, rules=self._rules)
        )
        return tuple(Claim(message=message, group=group, token=token) for message, token in claimed)

    def _look(self, topics: Sequence[str], group: str, now: float) -> bool:
        """Whether there may be something to claim; shows what was hidden long enough."""
        version, due, is_open = self._file.read(
            lambda c: (self._version(c), work.next_due(c, topics), work.has_open(c, topics, group))
        )
        self._hear(version)
        if due <= now:
            self._show(topics)
        return is_open or due <= now

    async def _register(self, topics: Sequence[str], group: str) -> bool:
        """Whether the group is new on one of the topics."""
        new = [topic for topic in topics if (topic, group) not in self._groups]
        if not new:
            return False
        now = self._now()

        def join(connection: sqlite3.Connection) -> None:
            for topic in new:
                work.join(connection, topic, group, now=now, rules=self._rules)

        await self._file.write(join)
        self._groups.update((topic, group) for topic in new)
        return True

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the claimed message, gives it back after a delay, or makes it a dead letter."""
        topic, key = claim.message.topic, (claim.message.seq, claim.group, claim.token)
        now = self._now()
        if dead is None and requeue_after_s is not None:
            until = now + requeue_after_s
            await self._file.write(lambda connection: connection.execute(sql.REQUEUE, (until, *key)))
            self._show([claim.message.topic])
            self._signals.stir(claim.message.topic)
            self._bells.ring()
            return

        def settle(connection: sqlite3.Connection) -> None:
            if dead is not None and connection.execute(sql.IS_CLAIMED, key).fetchone():
                work.bury(connection, topic, key[0], key[1], reason=dead, now=now)
            elif dead is None and connection.execute(sql.SETTLE, key).rowcount == 1:
                work.settled(connection, topic, key[0], key[1])

        await self._file.write(settle)

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""
        self._hear()
        self._signals.looked([topic])
        values = (topic, after, 0.0 if since is None else since.timestamp(), max(0, limit))
        rows = self._file.read(lambda connection: connection.execute(sql.READ, values).fetchall())
        return tuple(to_message(row) for row in rows)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic by ``message.seq``, with ``seq > after``."""
        values = (topic, after, max(0, limit))
        rows = self._file.read(lambda connection: connection.execute(sql.LETTERS, values).fetchall())
        return tuple(to_letter(row) for row in rows)

    async def revive(self, letter: Letter) -> bool:
        """Whether the dead letter was there; it waits for its group again, as if it were new."""
        now = self._now()
        is_there = await self._file.write(lambda c: work.revive(c, letter, now=now, rules=self._rules))
        if is_there:
            self._signals.happened(letter.message.topic)
            self._bells.ring()
        return is_there

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics that have messages, groups or dead letters, in order, with ``name > after``."""
        rows = self._file.read(lambda connection: connection.execute(sql.TOPICS, (after, max(0, limit))).fetchall())
        return tuple(topic for (topic,) in rows)

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed, those with a delay included."""
        now = self._now()
        return self._file.read(lambda c: sum(work.depth(c, topic, now=now) for topic in dict.fromkeys(topics)))

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
        due_s = self._file.read(lambda connection: work.next_due(connection, topics))
        if due_s > now:
            return due_s - now
        shown = self._file.try_write(lambda c: work.show(c, topics, now=now, rules=self._rules))
        if shown is None:
            return _TRY_AGAIN_S
        for topic in shown:
            self._signals.happened(topic)
        return self._file.read(lambda connection: work.next_due(connection, topics)) - now

    def _token(self) -> str:
        self._claims += 1
        return f"{self._name}.{self._claims}"

    def _version(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Another one whenever another process has written."""
        return self._file.generation, connection.execute("PRAGMA data_version").fetchone()[0]

    def _hear(self, version: tuple[int, int] | None = None) -> None:
        """Passes on what other processes have published or given back since the last call."""
        heard = version or self._file.read(self._version)
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
