"""The bus in Redis: sorted sets for what is claimed, streams for what is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules, encoded, topic_full
from collegium.adapters.redis import scripts
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.redis.scripts import Script
from collegium.adapters.redis.wakes import Wakes
from collegium.adapters.redis.wire import (
    member_of,
    revived_line,
    rules_json,
    since_us,
    stream_id,
    to_arguments,
    to_letter,
    to_message,
    us_of,
)
from collegium.adapters.rows import Entropy, to_us
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.message import Claim, Letter, Message, is_work
from collegium.ports import Clock

_AT_ONCE: Final = 256
"""So many messages go into one call of a script: others wait for a script to end."""
_AT_ONCE_BYTES: Final = 1024 * 1024
_READ_AT_ONCE: Final = 1_000


class RedisBus:
    """Implements ``Bus`` for any number of processes on any number of hosts.

    Work topics hold nothing that is not in the journals too. Whatever else is published lives as long as Redis keeps
    it: through a restart with ``appendonly yes``, up to the last second of a crash. A flushed Redis is a new one:
    groups come back with their next claim, and numbers of messages only grow, since they are times.

    A group that claims from a topic for the first time begins with the messages that no group has settled yet; from
    then on every message waits for each group of its topic. The time is that of the calling process: clocks of hosts
    should agree within a fraction of the hide time.

    Args:
        connection: May be shared with ``RedisCache``, ``RedisQuota`` and ``RedisDirectory``; ``aclose`` leaves it open.
            A URL instead makes the bus a connection of its own, which ``aclose`` closes.
        clock: Hides, ranks and wakes.
        prefix: Of every key and channel, with the ids of the store and of its epoch: ``clg:STORE:EPOCH:``.
        rules: Alike in every process of a store.

    Raises:
        UsageError: a URL that is none.
    """

    def __init__(
        self,
        connection: RedisConnection | str,
        clock: Clock,
        *,
        prefix: str,
        rules: BusRules = DEFAULT_RULES,
        entropy: Entropy = os.urandom,
    ) -> None:
        self._is_own = isinstance(connection, str)
        self._redis = RedisConnection(connection) if isinstance(connection, str) else connection
        self._clock = clock
        self._rules = rules
        self._rules_json = rules_json(rules)
        self._prefix = prefix
        self._name = entropy(6).hex()
        self._claims = 0
        self._signals = TopicSignals(clock)
        self._wakes = Wakes(
            self._redis, self._signals, clock, prefix=prefix, look=self._look_again, look_s=rules.look_s
        )

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new; see ``Bus``. Of a very large lot, a part may be stored when this raises ``StoreError``."""
        bodies = [encoded(message, self._rules) for message in messages]
        now_us = to_us(self._clock.now())
        due_us = now_us + us_of(delay_s) if delay_s > 0 else 0
        lots: list[list[tuple[str, list[str | bytes]]]] = [[]]
        count = size_bytes = 0
        for message, body in zip(messages, bodies, strict=True):
            if count >= _AT_ONCE or size_bytes > _AT_ONCE_BYTES:
                lots.append([])
                count = size_bytes = 0
            arguments = to_arguments(message, body, now_us=now_us, due_us=due_us, rules=self._rules)
            if not lots[-1] or lots[-1][-1][0] != message.topic:
                lots[-1].append((message.topic, []))
            lots[-1][-1][1].extend(arguments)
            count, size_bytes = count + 1, size_bytes + len(body)
        return sum([await self._publish(lot, due_us) for lot in lots if lot])

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, tenants in turn, hidden from ``group`` for the hide time."""
        topics = list(dict.fromkeys(topics))
        if not topics:
            return ()
        self._wakes.listen()
        self._signals.looked(topics)
        self._claims += 1
        token = f"{self._name}.{self._claims}"
        found, looks = await self._run(scripts.CLAIM, group, max(0, limit), token, *topics)
        for topic, number, due_us in looks:
            self._wakes.seen(topic.decode(), int(number), int(due_us))
        return tuple(_claim(entry, group) for entry in found)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the claimed message, gives it back after a delay, or makes it a dead letter."""
        message = claim.message
        how: tuple[str, str] = ("done", "")
        if dead is not None:
            how = ("dead", dead)
        elif requeue_after_s is not None:
            how = ("back", str(to_us(self._clock.now()) + us_of(requeue_after_s)))
        key = (message.topic, claim.group, member_of(message.seq), claim.token, message.tenant, message.id)
        for topic, number, due_us in _threes(await self._run(scripts.SETTLE, *key, *how)):
            self._wakes.published(topic.decode(), int(number))
            self._wakes.back(topic.decode(), int(due_us))

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""
        self._wakes.listen()
        self._signals.looked([topic])
        if is_work(topic):
            return ()
        number = int(await self._redis.ask("GET", f"{self._prefix}n:{topic}") or 0)
        found: list[Message] = []
        first = max(after + 1, since_us(since))
        while len(found) < limit:
            count = min(limit - len(found), _READ_AT_ONCE)
            entries = await self._redis.ask("XRANGE", f"{self._prefix}x:{topic}", f"{first}-0", "+", "COUNT", count)
            messages = [to_message(topic, stream_id(id_), fields[1]) for id_, fields in entries]
            found += [m for m in messages if since is None or (m.at is not None and m.at >= since)]
            if len(entries) < count:
                break
            first = messages[-1].seq + 1
        self._wakes.seen(topic, number)
        return tuple(found)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic by ``message.seq``, with ``seq > after``."""
        if limit <= 0:
            return ()
        found = await self._run(scripts.LETTERS, topic, after, limit)
        return tuple(to_letter(topic, int(found[n]), found[n + 1]) for n in range(0, len(found), 2))

    async def revive(self, letter: Letter) -> bool:
        """Whether the dead letter was there; it waits for its group again, as if it were new."""
        message = letter.message
        line = revived_line(letter, now_us=to_us(self._clock.now()), rules=self._rules)
        revived = await self._run(scripts.REVIVE, message.topic, member_of(message.seq), letter.group, line)
        if not revived:
            return False
        self._wakes.published(message.topic, int(revived[1]))
        return True

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics that have messages, groups or dead letters, in order, with ``name > after``."""
        names = sorted(name.decode() for name in await self._run(scripts.TOPICS))
        return tuple([name for name in names if name > after][: max(0, limit)])

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed, those with a delay included."""
        topics = list(dict.fromkeys(topics))
        return int(await self._run(scripts.DEPTH, *topics)) if topics else 0

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``.

        Where Redis is away, its return is such a sign.
        """
        return await self._wakes.wait(list(dict.fromkeys(topics)), timeout_s)

    async def aclose(self) -> None:
        """Ends the subscription, and the connection where it is the bus's own; twice is harmless."""
        await self._wakes.aclose()
        if self._is_own:
            await self._redis.aclose()

    async def _publish(self, lot: Sequence[tuple[str, Sequence[str | bytes]]], due_us: int) -> int:
        arguments: list[str | bytes] = []
        for topic, parts in lot:
            arguments += [topic, str(due_us), str(len(parts) // 5), *parts]
        reply = await self._run(scripts.PUBLISH, *arguments)
        if reply[0] < 0:
            raise topic_full(reply[1].decode(), reply[2], self._rules)
        for n in range(1, len(reply), 2):
            self._wakes.published(reply[n].decode(), int(reply[n + 1]))
            self._wakes.back(reply[n].decode(), due_us)
        return int(reply[0])

    async def _look_again(self, topics: Sequence[str]) -> None:
        for topic, number, due_us in await self._run(scripts.LOOK, *topics):
            self._wakes.looked(topic.decode(), int(number), int(due_us))

    async def _run(self, script: Script, *arguments: str | bytes | int) -> Any:
        now_us = to_us(self._clock.now())
        return await self._redis.run(script, self._prefix, now_us, self._rules_json, *arguments)


def _claim(entry: Sequence[Any], group: str) -> Claim:
    topic, member, deliveries, token, value = entry
    message = to_message(topic.decode(), int(member), value, deliveries=deliveries)
    return Claim(message=message, group=group, token=token.decode())


def _threes(reply: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    return [(reply[0], reply[1], reply[2])] if reply else []
