"""Deadlines: nobody waits for an answer for longer than the settings say.

Whoever is answered 504 is told no lie: what was asked for is not undone half way, it goes on to its end, and can be
looked at. Streams and sockets have begun to answer at once, and last as long as they like.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collegium.server.problem import problem

_CHANGES_OF: Final = ("/v1/", "/auth/", "/graphql")
"""Other faces wait for runs, which is what they are asked for."""
_READS: Final = frozenset({"GET", "HEAD"})
_log = logging.getLogger("collegium.requests")


class Deadline:
    """Answers 504 for what has not begun to be answered in time; the time begins when all of the body is there.

    Costs a timer that is nearly always cancelled: no task, no thread.

    Args:
        app: What comes behind.
        seconds: So long it may take; None for as long as it likes.
        is_for_reads: Whether reads are timed, and nothing else; or changes, and nothing else.
    """

    def __init__(self, app: ASGIApp, *, seconds: float | None, is_for_reads: bool) -> None:
        self._app = app
        self._seconds = seconds
        self._is_for_reads = is_for_reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if self._seconds is None or not self._is_timed(scope):
            await self._app(scope, receive, send)
            return
        timed = _Timed(scope, receive, send, self._seconds)
        timed.begin()
        try:
            await self._app(scope, timed.receive, timed.send)
        finally:
            timed.end()

    def _is_timed(self, scope: Scope) -> bool:
        if scope["type"] != "http" or (scope["method"] in _READS) != self._is_for_reads:
            return False
        return self._is_for_reads or scope["path"].startswith(_CHANGES_OF)


class _Timed:
    """One request and its timer."""

    __slots__ = ("_answering", "_handle", "_has_begun", "_receive", "_scope", "_seconds", "_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None
        self._has_begun = False

    def begin(self) -> None:
        """Sets the timer, for the first time or anew."""
        self.end()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._over)

    def end(self) -> None:
        """Takes the timer away."""
        if self._handle is not None:
            self._handle.cancel()

    async def receive(self) -> Message:
        """The next piece of the body: as long as it comes, ``BodyCap`` is who watches over the time."""
        message = await self._receive()
        if message["type"] == "http.request" and not self._has_begun and self._answering is None:
            self.begin()
        return message

    async def send(self, message: Message) -> None:
        """Sends the next message of the answer; what comes after the 504 nobody waits for any more."""
        if self._answering is not None:
            return
        if not self._has_begun:
            self._has_begun = True
            self.end()
        await self._send(message)

    def _over(self) -> None:
        if not self._has_begun:
            self._answering = asyncio.ensure_future(self._give_up())

    async def _give_up(self) -> None:
        method, path = self._scope["method"], self._scope["path"]
        _log.warning("%s %s is not answered after %s s; it goes on", method, path, f"{self._seconds:g}")
        detail = (
            f"this is not answered after {self._seconds:g} s, the most that one request may take "
            "(`server.request_timeout_s`); it goes on nevertheless: look what became of it before you ask again, or "
            "ask again with the same Idempotency-Key"
        )
        await problem(Request(self._scope), 504, "timed_out", detail)(self._scope, self._receive, self._send)
