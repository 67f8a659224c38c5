"""The gate: all that a request passes before it is answered, in one place and in order.

Each concern is an object that is asked: whether the request may come in at all (``guard``), who asks (``caller``), how
often (``rates``), what the log has to know of it (``audit``). None of them is a layer of its own around the others: a
read is answered in fewer microseconds than seven layers take to hand it on, and the order stands here to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, RateLimited
from collegium.server.access.deeds import ORIGIN, Origin
from collegium.server.audit import REFUSED, RefusalLog, is_failed_attempt, status_of
from collegium.server.body_cap import BodyCap
from collegium.server.caller import OPEN, Authenticator, may_say_later
from collegium.server.deadline import Deadline
from collegium.server.guard import LoopbackGuard
from collegium.server.headers import with_security
from collegium.server.idempotency import Idempotency
from collegium.server.live.hub import Hub
from collegium.server.problem import from_error, problem
from collegium.server.rates.limiter import Limiter, Stood, is_stream, refuse, told
from collegium.server.reads import Reads
from collegium.server.rest.openapi import Lean

_READS: Final = frozenset({"GET", "HEAD"})


class Doors(NamedTuple):
    """What stands before the faces.

    Attributes:
        opened: Gives the Collegium once its stores have answered.
        hub: Gives where its runs are looked at live. Raises ``StoreUnavailable`` before that.
        authenticator: Tells who asks.
        refusals: Where refused requests are gathered.
        limiter: Counts requests; without one there is no limit.
        body_bytes: Most bytes of a body.
        body_bytes_of: The same by the beginning of the path, where it is another.
        request_timeout_s: A change is answered within so long, or told that it is not.
        reads: Routes whose answers are at hand.
    """

    opened: Callable[[], Collegium | None]
    hub: Callable[[], Hub]
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
        broken: Makes the answer to a request that failed in the gate itself.
        guard: Of a server on loopback.
        doors: What stands before the faces; None where only health is answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        broken: Callable[[Request, Exception], Response],
        guard: LoopbackGuard | None = None,
        doors: Doors | None = None,
    ) -> None:
        self._app = app
        self._broken = broken
        self._guard = guard
        self._doors = doors
        self._changes = self._reads = app
        if doors is not None:
            self._reads = Reads(app, doors.reads, doors.hub)
            kept = Deadline(Idempotency(app, opened=doors.opened), seconds=doors.request_timeout_s, is_for_reads=False)
            self._changes = BodyCap(kept, usual=doors.body_bytes, others=doors.body_bytes_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send)
        try:
            against = None if self._guard is None else self._guard.against(scope)
            if against is not None:
                await _turn_away(passage, against)
            elif self._doors is None:
                await self._app(scope, receive, passage.send)
            else:
                await self._enter(self._doors, passage)
        except Exception as error:
            if scope["type"] == "http" and not passage.is_answered:
                await passage.answer(self._broken(Request(scope), error))
            raise  # for the log

    async def _enter(self, doors: Doors, passage: _Passage) -> None:
        """Lets nobody try who has failed too often, and counts those who fail now."""
        passage.refusals = doors.refusals
        token = ORIGIN.set(passage)
        try:
            limiter = doors.limiter
            if limiter is not None:
                limiter.require_trusted(passage.address)
            await self._identify(doors, passage)
            if passage.is_failed and limiter is not None:
                await limiter.note_failure(passage.address)
        except RateLimited as error:
            await refuse(passage.scope, passage.receive, passage.send, error)
        finally:
            ORIGIN.reset(token)
            doors.refusals.look()

    async def _identify(self, doors: Doors, passage: _Passage) -> None:
        """Puts the principal into ``request.state.principal``, or answers 401; ``OPEN`` paths need none."""
        scope = passage.scope
        is_short = scope["type"] == "http" and not is_stream(scope)
        if scope["path"] in OPEN:
            await self._answer(passage, is_short=is_short)
            return
        connection = HTTPConnection(scope)
        try:
            principal = await doors.authenticator.identify(connection)
        except CollegiumError as error:
            if may_say_later(connection, error):
                await self._app(scope, passage.receive, passage.send)
            elif scope["type"] == "websocket":
                await passage.send({"type": "websocket.close", "code": 1008, "reason": error.code})
            else:
                await passage.answer(from_error(Request(scope), error))
            return
        scope.setdefault("state", {})["principal"] = principal
        limiter = doors.limiter
        if limiter is None:
            await self._answer(passage, is_short=is_short)
            return
        if limiter.counts(principal):
            passage.stood = await limiter.take(principal, scope.get("method", "GET"), scope["path"])
        if not is_short:
            # Sockets and streams stay: only their opening is counted.
            await self._answer(passage, is_short=False)
            return
        limiter.enter(principal.tenant)
        try:
            await self._answer(passage, is_short=True)
        finally:
            limiter.leave(principal.tenant)

    async def _answer(self, passage: _Passage, *, is_short: bool) -> None:
        scope = passage.scope
        is_change = scope["type"] == "http" and scope["method"] not in _READS
        behind = self._changes if is_change else self._reads if is_short else self._app
        await behind(scope, passage.receive, passage.send)


class _Passage(Origin):
    """One request on its way through the gate, and what is seen of its answer.

    Attributes:
        scope: What is asked.
        receive: Gives its body.
        refusals: Where it is noted if it is refused; None before that is of interest.
        stood: How the caller's buckets stand.
        is_answered: Whether an answer has begun.
        is_failed: Whether somebody tried to be somebody, and was not.
    """

    __slots__ = ("_send", "is_answered", "is_failed", "receive", "refusals", "scope", "stood")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope)
        self.scope = scope
        self.receive = receive
        self._send = send
        self.refusals: RefusalLog | None = None
        self.stood: Stood | None = None
        self.is_answered = self.is_failed = False

    async def answer(self, response: Response) -> None:
        """Sends a whole answer."""
        await response(self.scope, self.receive, self.send)

    async def send(self, message: Message) -> None:
        """Sends the next message of the answer."""
        kind = message["type"]
        if kind != "http.response.body":
            self.is_answered = True
            if kind == "http.response.start":
                is_tls = self.scope.get("scheme") == "https"
                message["headers"] = headers = with_security(message.get("headers", ()), is_tls=is_tls)
                if self.stood is not None:
                    headers += told(self.stood)
            status = status_of(message)
            if status in REFUSED and self.refusals is not None:
                self.is_failed = self.is_failed or is_failed_attempt(message)
                self.refusals.note_answer(self.scope, self, status)
        await self._send(message)


async def _turn_away(passage: _Passage, against: tuple[int, str, str]) -> None:
    status, code, why = against
    if passage.scope["type"] == "websocket":
        await passage.send({"type": "websocket.close", "code": 1008, "reason": why})
    else:
        await passage.answer(problem(Request(passage.scope), status, code, why))
