"""The gate: all that a request passes before it is answered, in one place and in order.

Each concern is an object that is asked: whether the request may come in at all (``guard``), who asks (``caller``), how
often (``rates``), what the log has to know of it (``audit``). None of them is a layer of its own around the others: a
read is answered in fewer microseconds than seven layers take to hand it on, and the order stands here to be read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, RateLimited
from collegium.domain.principal import Principal
from collegium.server.access.deeds import ORIGIN, Origin
from collegium.server.audit import REFUSED, RefusalLog, is_failed_attempt, status_of
from collegium.server.body_cap import BodyCap
from collegium.server.caller import OPEN, Authenticator, may_say_later
from collegium.server.deadline import Deadline
from collegium.server.guard import LoopbackGuard
from collegium.server.headers import with_security
from collegium.server.idempotency import Idempotency
from collegium.server.problem import from_error, problem
from collegium.server.rates.limiter import Limiter, Stood, is_stream, refuse, tell
from collegium.server.reads import Reads
from collegium.server.rest.openapi import Lean

_READS: Final = frozenset({"GET", "HEAD"})
_log = logging.getLogger("collegium.rates")


class Doors(NamedTuple):
    """What stands before the faces.

    Attributes:
        opened: Gives the Collegium once its stores have answered.
        authenticator: Tells who asks.
        refusals: Where refused requests are gathered.
        limiter: Counts requests; without one there is no limit.
        body_bytes: Most bytes of a body.
        body_bytes_of: The same by the beginning of the path, where it is another.
        request_timeout_s: A change is answered within so long, or told that it is not.
        reads: Routes whose answers are at hand.
    """

    opened: Callable[[], Collegium | None]
    authenticator: Authenticator
    refusals: RefusalLog
    limiter: Limiter | None
    body_bytes: int
    body_bytes_of: Mapping[str, int]
    request_timeout_s: float | None = None
    reads: Sequence[Lean] = ()


class Gate:
    """Lets requests in, or answers them with what is against it; adds the headers that every answer has.

    Args:
        app: What comes behind.
        guard: Of a server on loopback.
        doors: What stands before the faces; None where only health is answered.
    """

    def __init__(self, app: ASGIApp, *, guard: LoopbackGuard | None = None, doors: Doors | None = None) -> None:
        self._app = app
        self._guard = guard
        self._doors = doors
        self._changes = self._reads = app
        if doors is not None:
            self._reads = Reads(app, doors.reads)
            kept = Deadline(Idempotency(app, opened=doors.opened), seconds=doors.request_timeout_s, is_for_reads=False)
            self._changes = BodyCap(kept, usual=doors.body_bytes, others=doors.body_bytes_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, send)
        against = None if self._guard is None else self._guard.against(scope)
        if against is not None:
            await _turn_away(scope, receive, passage.send, against)
            return
        doors = self._doors
        if doors is None:
            await self._app(scope, receive, passage.send)
            return
        passage.refusals = doors.refusals
        token = ORIGIN.set(passage.origin)
        try:
            await self._count_failures(doors, passage, scope, receive)
        finally:
            ORIGIN.reset(token)
            doors.refusals.look()

    async def _count_failures(self, doors: Doors, passage: _Passage, scope: Scope, receive: Receive) -> None:
        """Lets nobody try who has failed too often, and counts those who fail now."""
        limiter = doors.limiter
        if limiter is None or limiter.policy.refusals is None:
            await self._identify(doors, passage, scope, receive)
            return
        address = passage.origin.address
        try:
            await limiter.refusals(address, amount=0.0)
        except RateLimited as error:
            await refuse(scope, receive, passage.send, error)
            return
        await self._identify(doors, passage, scope, receive)
        if passage.is_failed:
            try:
                await limiter.refusals(address, amount=1.0)
            except RateLimited:
                _log.warning("too many failed attempts from %s", address)

    async def _identify(self, doors: Doors, passage: _Passage, scope: Scope, receive: Receive) -> None:
        """Puts the principal into ``request.state.principal``, or answers 401; ``OPEN`` paths need none."""
        if scope["path"] not in OPEN:
            connection = HTTPConnection(scope)
            try:
                principal = await doors.authenticator.identify(connection)
            except CollegiumError as error:
                if may_say_later(connection, error):
                    await self._app(scope, receive, passage.send)
                elif scope["type"] == "websocket":
                    await passage.send({"type": "websocket.close", "code": 1008, "reason": error.code})
                else:
                    await from_error(Request(scope), error)(scope, receive, passage.send)
                return
            scope.setdefault("state", {})["principal"] = principal
            if doors.limiter is not None:
                await self._count(doors.limiter, principal, passage, scope, receive)
                return
        await self._answer(passage, scope, receive, is_short=_is_short(scope))

    async def _count(
        self, limiter: Limiter, principal: Principal, passage: _Passage, scope: Scope, receive: Receive
    ) -> None:
        """Counts a request of a known principal; the answer says how its buckets stand."""
        # Sockets and streams stay: only their opening is counted.
        is_short = _is_short(scope)
        try:
            stood = await limiter.take(principal, scope.get("method", "GET"), scope["path"])
            if is_short:
                limiter.enter(principal.tenant)
        except RateLimited as error:
            await refuse(scope, receive, passage.send, error)
            return
        passage.stood = stood
        try:
            await self._answer(passage, scope, receive, is_short=is_short)
        finally:
            if is_short:
                limiter.leave(principal.tenant)

    async def _answer(self, passage: _Passage, scope: Scope, receive: Receive, *, is_short: bool) -> None:
        is_change = scope["type"] == "http" and scope["method"] not in _READS
        behind = self._changes if is_change else self._reads if is_short else self._app
        await behind(scope, receive, passage.send)


class _Passage:
    """One request on its way through the gate, and what is seen of its answer.

    Attributes:
        origin: Where it came from.
        refusals: Where it is noted if it is refused; None before that is of interest.
        stood: How the caller's buckets stand.
        is_failed: Whether somebody tried to be somebody, and was not.
    """

    __slots__ = ("_scope", "_send", "is_failed", "origin", "refusals", "stood")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.origin = Origin(scope)
        self.refusals: RefusalLog | None = None
        self.stood: Stood = ()
        self.is_failed = False

    async def send(self, message: Message) -> None:
        """Sends the next message of the answer."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.stood:
                tell(message, self.stood)
            message["headers"] = with_security(message.get("headers", ()), is_tls=self._scope.get("scheme") == "https")
        if kind != "http.response.body":
            self.is_failed = self.is_failed or is_failed_attempt(message)
            status = status_of(message)
            if status in REFUSED and self.refusals is not None:
                self.refusals.note_answer(self._scope, self.origin, status)
        await self._send(message)


def _is_short(scope: Scope) -> bool:
    """Whether its answer is at hand soon: it is neither a socket nor a stream."""
    return scope["type"] == "http" and not is_stream(scope)


async def _turn_away(scope: Scope, receive: Receive, send: Send, against: tuple[int, str, str]) -> None:
    status, code, why = against
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await problem(Request(scope), status, code, why)(scope, receive, send)
