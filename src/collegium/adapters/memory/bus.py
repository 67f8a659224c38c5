"""A bus in this process's memory."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import datetime

import msgspec

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules, encoded, rank_of, topic_full
from collegium.adapters.memory.bus_queue import Turns
from collegium.adapters.memory.bus_topic import Stored, Topic
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.message import Claim, Letter, Message, is_work
from collegium.ports import Clock

_SWEPT = 2
"""So many topics are looked through with each publication: one that is never published to again goes too."""


class MemoryBus:
    """Implements ``Bus``; all is lost with the process.

    A group that claims from a topic for the first time begins with the messages that no group has settled yet; from
    then on every message waits for each group of its topic.
    """

    def __init__(self, clock: Clock, rules: BusRules = DEFAULT_RULES) -> None:
        self._clock = clock
        self._rules = rules
        self._signals = TopicSignals(clock)
        self._topics: OrderedDict[str, Topic] = OrderedDict()
        self._turns: dict[str, Turns] = {}
        self._seq = 0
        self._token = 0

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new; see ``Bus``."""
        bodies = [encoded(message, self._rules) for message in messages]
        at, now_s = self._clock.now(), self._clock.monotonic()
        new: dict[tuple[str, str], tuple[Message, bytes]] = {}
        for message, body in zip(messages, bodies, strict=True):
            topic = self._topics.get(message.topic)
            if topic is None or not topic.has(message.id, at):
                new.setdefault((message.topic, message.id), (message, body))
        self._check_room(Counter(name for name, _ in new), at)
        due_s = now_s + max(0.0, delay_s)
        for message, body in new.values():
            self._seq += 1
            stored = msgspec.structs.replace(message, body=None, seq=self._seq, at=at, deliveries=0)
            topic = self._topic(message.topic)
            rank = rank_of(message, due_s, self._rules)
            topic.add(self._seq, Stored(stored, body, rank, now_s, due_s), now_s)
            topic.trim(self._rules, now_s, at)
        for name in {name for name, _ in new}:
            if due_s > now_s and is_work(name):
                self._signals.stir(name)
            else:
                self._signals.happened(name)
        self._sweep(now_s, at)
        return len(new)

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, tenants in turn, hidden from ``group`` for the hide time."""
        self._due_in_s(topics)
        self._signals.looked(topics)
        now_s, at = self._clock.monotonic(), self._clock.now()
        turns = self._turns.setdefault(group, Turns())
        queues = {name: self._topic(name).join(group, turns, now_s) for name in topics}
        claims: list[Claim] = []
        while len(claims) < limit:
            waiting = [turn for queue in queues.values() if (turn := queue.turn()) is not None]
            if not waiting:
                break
            tenant = min(waiting)[2]
            firsts = [(place, name) for name, queue in queues.items() if (place := queue.first(tenant)) is not None]
            (_, seq), name = min(firsts)
            topic = self._topics[name]
            if topic.stored[seq].has_expired(at):
                topic.settle(group, seq)
                continue
            turns.take(tenant, self._rules.turn(tenant))
            claims.append(self._claimed(topic, group, seq, now_s + self._rules.hide_s))
        return tuple(claims)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the claimed message, gives it back after a delay, or makes it a dead letter."""
        topic = self._topics.get(claim.message.topic)
        queue = None if topic is None else topic.queues.get(claim.group)
        seq = claim.message.seq
        if topic is None or queue is None or seq not in queue.entries or queue.entries[seq].token != claim.token:
            return
        if dead is not None:
            topic.bury(claim.group, seq, dead, self._clock.now())
        elif requeue_after_s is None:
            topic.settle(claim.group, seq)
        else:
            queue.give_back(seq, self._clock.monotonic() + requeue_after_s)
            self._due_in_s([claim.message.topic])
            self._signals.stir(claim.message.topic)

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""
        self._signals.looked([topic])
        found: list[Stored] = []
        stored = self._topics[topic].stored if topic in self._topics and not is_work(topic) else {}
        for seq, one in reversed(stored.items()):
            if seq <= after:
                break
            if since is None or (one.message.at is not None and one.message.at >= since):
                found.append(one)
        return tuple(one.read() for one in reversed(found[-limit:] if limit > 0 else ()))

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic by ``message.seq``, with ``seq > after``."""
        dead = self._topics[topic].dead if topic in self._topics else {}
        found = sorted((key, letter) for key, (letter, _) in dead.items() if key[0] > after)
        return tuple(letter for _, letter in found[: max(0, limit)])

    async def revive(self, letter: Letter) -> bool:
        """Whether the dead letter was there; it waits for its group again, as if it were new."""
        topic = self._topics.get(letter.message.topic)
        now_s = self._clock.monotonic()
        turns = self._turns.setdefault(letter.group, Turns())
        rank = rank_of(letter.message, now_s, self._rules)
        if topic is None or not topic.revive(letter, turns, now_s=now_s, rank=rank):
            return False
        self._signals.happened(letter.message.topic)
        return True

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics that have messages, groups or dead letters, in order, with ``name > after``."""
        return tuple(
            sorted(name for name, topic in self._topics.items() if name > after and not topic.is_empty)[:limit]
        )

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed, those with a delay included."""
        self._due_in_s(topics)
        at = self._clock.now()
        return sum(self._topics[name].depth(at) for name in dict.fromkeys(topics) if name in self._topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``."""
        return await self._signals.news(topics, timeout_s, due_in_s=lambda: self._due_in_s(topics))

    def _claimed(self, topic: Topic, group: str, seq: int, until_s: float) -> Claim:
        self._token += 1
        entry = topic.queues[group].claim(seq, str(self._token), until_s)
        message = topic.stored[seq].read(entry.deliveries)
        return Claim(message=message, group=group, token=str(self._token))

    def _due_in_s(self, topics: Sequence[str]) -> float:
        """Shows again what was hidden long enough; returns the seconds until the next message comes back."""
        now_s, at = self._clock.monotonic(), self._clock.now()
        next_s = math.inf
        for name in topics:
            if name in self._topics:
                has_shown, due_s = self._topics[name].show(now_s, at, self._rules)
                next_s = min(next_s, due_s)
                if has_shown:
                    self._signals.happened(name)
        return next_s - now_s

    def _topic(self, name: str) -> Topic:
        if name not in self._topics:
            self._topics[name] = Topic(name)
        return self._topics[name]

    def _check_room(self, new: Counter[str], at: datetime) -> None:
        """Raises ``TopicFull`` where so many more do not fit."""
        for name, count in new.items():
            topic = self._topics.get(name) or Topic(name)
            if topic.waiting() + count > self._rules.max_waiting:
                topic.expire(at)
            if topic.waiting() + count > self._rules.max_waiting:
                raise topic_full(name, topic.waiting(), self._rules)

    def _sweep(self, now_s: float, at: datetime) -> None:
        for _ in range(min(_SWEPT, len(self._topics))):
            name, topic = next(iter(self._topics.items()))
            topic.trim(self._rules, now_s, at)
            self._topics.move_to_end(name)
            if topic.is_empty:
                del self._topics[name]
