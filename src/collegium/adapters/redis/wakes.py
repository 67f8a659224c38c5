"""Wakes those who wait for topics in Redis: by what it tells subscribers, and once a second by a look."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from collegium.adapters.redis.connection import RedisConnection, pack
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.errors import StoreError
from collegium.ports import Clock

Look = Callable[[Sequence[str]], Awaitable[object]]
_PING_S: Final = 10.0
_RETRY_S: Final = 0.2
_CONFIRMED_S: Final = 5.0
_UNUSED_S: Final = 60.0
_MANY: Final = 10_000
_NEVER_US: Final = 2**62


class Wakes:
    """What this process knows of topics: the number of their last news, and when something comes back.

    Topics are subscribed to once somebody waits for them, and looked at as soon as that is confirmed: nothing is lost
    between the last look and the subscription. A lost subscription is made again in the same way.

    Args:
        prefix: Of the channels; the topic follows.
        look: Asks Redis about topics and calls ``looked`` with what it says.
        look_s: How often waiters look all the same.
    """

    def __init__(
        self,
        connection: RedisConnection,
        signals: TopicSignals,
        clock: Clock,
        *,
        prefix: str,
        look: Look,
        look_s: float,
    ) -> None:
        self._connection = connection
        self._signals = signals
        self._clock = clock
        self._channel = f"{prefix}w:".encode()
        self._look = look
        self._look_s = look_s
        self._known: dict[str, int] = {}
        self._due_us: dict[str, int] = {}
        self._wanted: dict[str, float] = {}
        self._subscribed: dict[str, asyncio.Future[None]] = {}
        self._socket: AbstractConnection | None = None
        self._bell: asyncio.Future[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def published(self, topic: str, number: int) -> None:
        """This process has published; ``number`` is 0 where nothing can be claimed yet."""
        if number > self._known.get(topic, 0):
            self._known[topic] = number
            self._signals.happened(topic)

    def back(self, topic: str, due_us: int) -> None:
        """Something comes back then; 0: nothing does that is known of."""
        if due_us and due_us < self._due_us.get(topic, _NEVER_US):
            self._due_us[topic] = due_us
            self._ring()

    def seen(self, topic: str, number: int, due_us: int | None = None) -> None:
        """This process has just looked at the topic and seen all up to ``number``."""
        if len(self._known) > _MANY:
            self._forget()
        self._known[topic] = max(number, self._known.get(topic, 0))
        if due_us is not None:
            self._due_us[topic] = due_us or _NEVER_US
        if due_us:
            self._ring()

    def looked(self, topic: str, number: int, due_us: int) -> None:
        """How the topic stands, asked on behalf of waiters: another number than before is news."""
        if number != self._known.get(topic, 0):
            self._known[topic] = number
            self._signals.happened(topic)
        self._due_us[topic] = due_us or _NEVER_US

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """True as soon as there is news of ``topics``, False after ``timeout_s``."""
        if timeout_s <= 0:
            with suppress(StoreError):
                await self._look(topics)
        now_s = self._clock.monotonic()
        for topic in topics:
            self._wanted[topic] = now_s
        self._start()
        if any(topic not in self._subscribed for topic in topics):
            self._ring()
        return await self._signals.news(topics, timeout_s, due_in_s=lambda: math.inf)

    def listen(self) -> None:
        """Opens the subscription, should it not be open yet."""
        if self._listener is None or self._listener.done():
            self._listener = asyncio.ensure_future(self._listen())

    async def aclose(self) -> None:
        """Ends the subscription; twice is harmless."""
        tasks = [task for task in (self._listener, self._watcher) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        self.listen()
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Subscribes and looks for as long as somebody waits."""
        is_away = False
        while True:
            await self._rest(is_away=is_away)
            topics = self._signals.topics
            if not topics:
                return
            with suppress(RedisError, OSError):
                await self._subscribe(topics)
            try:
                await self._look(sorted(topics))
                is_away = False
            except StoreError:
                is_away = True

    async def _rest(self, *, is_away: bool) -> None:
        """Returns when there is something to look at: a new topic, something that comes back, or after ``look_s``."""
        topics = self._signals.topics
        if any(topic not in self._subscribed for topic in self._wanted) and self._socket is not None:
            return
        now_us = self._now_us()
        due_us = min((self._due_us.get(topic, _NEVER_US) for topic in topics), default=_NEVER_US)
        rest_s = self._look_s if is_away else min(self._look_s, (due_us - now_us) / 1e6)
        if rest_s <= 0:
            return
        bell = self._bell = asyncio.get_running_loop().create_future()
        asleep = asyncio.ensure_future(self._clock.sleep(rest_s))
        asleep.add_done_callback(lambda _: None if bell.done() else bell.set_result(None))
        try:
            await bell
        finally:
            self._bell = None
            asleep.cancel()

    def _now_us(self) -> int:
        return round(self._clock.now().timestamp() * 1e6)

    async def _subscribe(self, topics: frozenset[str]) -> None:
        """Subscribes to what is wanted and to nothing else; returns when the server has confirmed it."""
        now_s = self._clock.monotonic()
        for topic in topics:
            self._wanted[topic] = now_s
        old = [topic for topic, at_s in self._wanted.items() if now_s - at_s > _UNUSED_S]
        for topic in old:
            del self._wanted[topic]
        socket = self._socket
        if socket is None:
            return
        new = [topic for topic in self._wanted if topic not in self._subscribed]
        gone = [topic for topic in old if self._subscribed.pop(topic, None) is not None]
        confirmed = [self._subscribed.setdefault(t, asyncio.get_running_loop().create_future()) for t in new]
        if gone:
            await self._tell(socket, b"UNSUBSCRIBE", gone)
        if new:
            await self._tell(socket, b"SUBSCRIBE", new)
            async with asyncio.timeout(_CONFIRMED_S):
                await asyncio.gather(*confirmed)

    async def _tell(self, socket: AbstractConnection, command: bytes, topics: Sequence[str]) -> None:
        await socket.send_packed_command(
            pack((command, *(self._channel + topic.encode() for topic in topics))), check_health=False
        )

    async def _listen(self) -> None:
        while True:
            try:
                socket = await self._connection.open()
            except StoreError:
                await asyncio.sleep(_RETRY_S)
                continue
            self._socket = socket
            self._ring()
            try:
                await self._hear(socket)
            except (RedisError, OSError):
                pass
            finally:
                self._socket = None
                self._drop()
                await socket.disconnect(nowait=True)
            for topic in self._signals.topics:
                self._signals.happened(topic)
            await asyncio.sleep(_RETRY_S)

    async def _hear(self, socket: AbstractConnection) -> None:
        is_silent = False
        while True:
            reply = await socket.read_response(timeout=_PING_S)
            if reply is None:
                if is_silent:
                    return  # neither news nor an answer: the other end is gone
                await socket.send_packed_command(pack((b"PING",)), check_health=False)
            is_silent = reply is None
            if reply is not None:
                self._heard(reply)

    def _heard(self, reply: Any) -> None:
        if not isinstance(reply, list) or len(reply) != 3 or reply[0] not in (b"message", b"subscribe"):
            return
        topic = reply[1][len(self._channel) :].decode()
        if reply[0] == b"subscribe":
            confirmed = self._subscribed.get(topic)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)
            return
        number, _, due_us = reply[2].partition(b" ")
        self.published(topic, int(number))
        self.back(topic, int(due_us))

    def _drop(self) -> None:
        for confirmed in self._subscribed.values():
            if not confirmed.done():
                confirmed.set_result(None)  # whoever waits for it looks, and subscribes anew
        self._subscribed.clear()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def _forget(self) -> None:
        """Drops what is known of topics that nobody has waited for lately: a look at them is news once more."""
        self._known = {topic: number for topic, number in self._known.items() if topic in self._wanted}
        self._due_us = {topic: due_us for topic, due_us in self._due_us.items() if topic in self._wanted}
