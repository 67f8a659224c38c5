"""The connection to Redis that a process shares, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisError, ResponseError

from collegium.adapters.redis.errors import refused, store_error, usage_error, with_advice
from collegium.adapters.redis.place import place_of
from collegium.adapters.redis.scripts import Script
from collegium.domain.errors import StoreError, StoreUnavailable, UsageError

Argument = bytes | str | int
_CONNECT_S: Final = 2.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_MAX_COMMANDS: Final = 512
_MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_OLDEST: Final = (6, 2)


class RedisConnection:
    """One connection, for the bus, the cache, the quotas and the directory of a process together.

    Commands of tasks that ask at the same time travel together. Nothing is connected before the first one; a Redis that
    is away costs a ``StoreUnavailable`` each time, at once while it was tried a moment ago, and no restart.

    Args:
        url: ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, ``rediss://`` or ``unix://``.
        patience_s: So long an answer is waited for.

    Raises:
        UsageError: a URL that is none.
    """

    def __init__(self, url: str, *, patience_s: float = 5.0) -> None:
        self.place = place_of(url)
        self._patience_s = patience_s
        # The vendor's own time limits swallow a cancellation now and then (asyncio.wait_for before Python 3.12): none
        # is set there, and whatever takes time has one here.
        pool = ConnectionPool.from_url(url, protocol=2, socket_timeout=None, socket_connect_timeout=None)
        self._make: Callable[[], AbstractConnection] = pool.make_connection
        self._connection: AbstractConnection | None = None
        self._waiting: deque[_Call] = deque()
        self._called = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._pause_s = 0.0
        self._away_until_s = 0.0
        self._away = ""
        self._is_closed = False

    async def ask(self, *command: Argument) -> Any:
        """The reply to one command. Raises ``StoreError``."""
        reply = await self._call(pack(command))
        if isinstance(reply, ResponseError):
            raise store_error(reply, self.place)
        return reply

    async def run(self, script: Script, *arguments: Argument) -> Any:
        """What the script returns; it is brought to the server where that does not know it. Raises ``StoreError``."""
        command = pack((b"EVALSHA", script.sha, b"0", *arguments))
        reply = await self._call(command)
        if isinstance(reply, NoScriptError):
            await self.ask(b"SCRIPT", b"LOAD", script.text)
            reply = await self._call(command)
        if isinstance(reply, ResponseError):
            raise store_error(reply, self.place)
        return reply

    async def check(self) -> bool:
        """Whether Redis is there and can be used.

        Raises ``UsageError`` for what only people can put right: a password, a cluster, a replica, an old version.
        """
        try:
            connection = await self.open()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, RedisError) and refused(error.__cause__):
                raise UsageError(error.message, store=self.place) from error
            return False
        try:
            async with asyncio.timeout(self._patience_s):
                await connection.send_packed_command(pack((b"INFO",)), check_health=False)
                info = await connection.read_response()
        except (RedisError, OSError) as error:
            if isinstance(error, RedisError) and refused(error):
                raise UsageError(with_advice(error, self.place), store=self.place) from error
            return False
        finally:
            await connection.disconnect(nowait=True)
        problem = usage_error(info.decode(errors="replace"), self.place, oldest=_OLDEST)
        if problem is not None:
            raise problem
        return True

    async def open(self) -> AbstractConnection:
        """A connection of its own, for whoever listens; the caller disconnects it. Raises ``StoreUnavailable``."""
        if self._is_closed:
            raise StoreUnavailable(f"the connection to {self.place} is closed", store=self.place)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._away_until_s:
            raise StoreUnavailable(self._away, store=self.place)
        connection = self._make()
        connect: Callable[[], Awaitable[None]] = connection.connect
        try:
            async with asyncio.timeout(min(self._patience_s, _CONNECT_S)):
                await connect()
        except (RedisError, OSError, ValueError) as error:
            await connection.disconnect(nowait=True)
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            self._away_until_s = now_s + self._pause_s
            self._away = with_advice(error, self.place)
            raise StoreUnavailable(self._away, store=self.place) from error
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        self._pause_s = self._away_until_s = 0.0
        return connection

    async def aclose(self) -> None:
        """Closes the connection; twice is harmless."""
        self._is_closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None
        self._fail(list(self._waiting), f"the connection to {self.place} is closed")
        self._waiting.clear()

    def _call(self, command: bytes) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = _Call(command, answer)
        if self._is_closed:
            self._fail([call], f"the connection to {self.place} is closed")
            return answer
        self._waiting.append(call)
        self._called.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send())
        return answer

    async def _send(self) -> None:
        """Sends what waits, all of it together; what is asked meanwhile goes with the next journey."""
        while True:
            await self._called.wait()
            self._called.clear()
            while self._waiting:
                batch = self._take()
                try:
                    await self._exchange(batch)
                except asyncio.CancelledError:
                    self._fail(batch, f"the connection to {self.place} is closed")
                    raise
                except StoreError as error:
                    self._fail(batch, error.message)

    def _take(self) -> list[_Call]:
        batch: list[_Call] = []
        size_bytes = 0
        while self._waiting and len(batch) < _MAX_COMMANDS and size_bytes < _MAX_BATCH_BYTES:
            call = self._waiting.popleft()
            if not call.answer.done():  # else whoever asked has gone
                batch.append(call)
                size_bytes += len(call.command)
        return batch

    async def _exchange(self, batch: Sequence[_Call]) -> None:
        if not batch:
            return
        connection = await self._connected()
        try:
            async with asyncio.timeout(self._patience_s):
                await connection.send_packed_command([call.command for call in batch], check_health=False)
                for call in batch:
                    reply = await self._reply(connection)
                    if not call.answer.done():
                        call.answer.set_result(reply)
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise StoreUnavailable(
                f"{self.place} did not answer within {self._patience_s:g} s; it is tried again", store=self.place
            ) from None
        except (RedisError, OSError, ValueError) as error:
            await connection.disconnect(nowait=True)
            raise StoreUnavailable(with_advice(error, self.place), store=self.place) from error
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise

    @staticmethod
    async def _reply(connection: AbstractConnection) -> Any:
        try:
            # Without a limit of its own: the whole journey has one.
            return await connection.read_response(timeout=float("inf"))
        except ResponseError as error:
            return error

    async def _connected(self) -> AbstractConnection:
        """The connection, made anew where the server has closed it meanwhile: nothing is sent into the void."""
        connection = self._connection
        if connection is not None and connection.is_connected:
            try:
                if not await connection.can_read():
                    return connection
            except (ConnectionLost, OSError):
                pass
            await connection.disconnect(nowait=True)
        self._connection = None
        self._connection = connection = await self.open()
        return connection

    def _fail(self, calls: Sequence[_Call], text: str) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(StoreUnavailable(text, store=self.place))


class _Call(NamedTuple):
    command: bytes
    answer: asyncio.Future[Any]


def pack(command: Sequence[Argument]) -> bytes:
    """The command as Redis reads it."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
