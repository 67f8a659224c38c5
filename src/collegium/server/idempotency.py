"""Idempotency: a change that is sent twice under the same key is made once, and answered the same both times.

A change is made again only where a process died between the change and its stored answer. A run's key is kept with it
besides, so that a submit makes one run even then; the other changes are of a kind that may be repeated (a cancel, an
answer, a pause).

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from secrets import token_hex
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collegium.app import Collegium
from collegium.domain.errors import CollegiumError, InProgress, KeyReused, StoreError, UsageError
from collegium.domain.principal import Principal
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import us_of
from collegium.ports import Quota
from collegium.server.problem import from_error

KIND: Final = "idempotent_answer"
KEPT: Final = timedelta(hours=24)
MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_KEY_CHARS: Final = 200
HOLD_S: Final = 6.0
"""A process that died in the middle holds the key for so long; one that lives renews its hold."""
_SWEEP_EVERY: Final = 50
_KEPT_HEADERS: Final = frozenset({b"content-type", b"location", b"etag", b"cache-control"})
_AGAIN: Final = frozenset({401, 403, 409, 412, 429})
"""Answers that may be another one the next time, besides those from 500 on."""
_log = logging.getLogger("collegium.idempotency")


class Idempotency:
    """Keeps answers to changes of ``/v1``, for a day.

    Args:
        app: What comes behind.
        opened: Gives the Collegium once its stores have answered.
    """

    def __init__(self, app: ASGIApp, *, opened: Callable[[], Collegium | None]) -> None:
        self._app = app
        self._opened = opened
        self._under_way: set[str] = set()
        self._stored = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or gives the answer of the first time."""
        key = _key(scope)
        collegium = self._opened() if key is not None else None
        if key is None or collegium is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        principal: Principal = scope["state"]["principal"]
        try:
            if len(key) > MAX_KEY_CHARS:
                raise UsageError(f"the idempotency key has {len(key)} characters and at most {MAX_KEY_CHARS} do")
            body = await request.body()
            asked = _Asked(principal, request, key, body)
            first = await self._first(collegium, asked)
            if first is None:
                await self._answer(collegium, asked, scope, _replaying(body, receive), send)
                return
        except CollegiumError as error:
            await from_error(request, error)(scope, receive, send)
            return
        for message in first:
            await send(message)

    async def _first(self, collegium: Collegium, asked: _Asked) -> list[Message] | None:
        """The answer of the first time. Raises ``KeyReused`` where something else was asked then."""
        record = await collegium.stores.records.get(KIND, asked.tenant, asked.name)
        if record is None or record.value["expires_us"] <= us_of(collegium.now()):
            return None
        if record.value["fingerprint"] != asked.fingerprint:
            raise KeyReused("the idempotency key was used for a request that said something else: take a new key")
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in record.value["headers"]]
        data = base64.b64decode(record.value["body"])
        return _messages(record.value["status"], [*headers, (b"idempotency-replayed", b"true")], data)

    async def _answer(self, collegium: Collegium, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        quota, bucket, holder = collegium.stores.quota, f"api:idempotency:{asked.name}", token_hex(8)
        if asked.name in self._under_way:
            raise InProgress("the same request is still being answered: ask again in a moment")
        self._under_way.add(asked.name)
        try:
            if quota is not None and not await _held(quota, bucket, holder):
                raise InProgress("the same request is still being answered: ask again in a moment")
            renewing = None if quota is None else asyncio.create_task(_renew(quota, bucket, holder))
            try:
                # Whoever was before may have ended between the first look and the hold.
                first = await self._first(collegium, asked)
                if first is None:
                    first = await self._make(collegium, asked, scope, receive)
            finally:
                if quota is not None and renewing is not None:
                    renewing.cancel()
                    await asyncio.gather(renewing, return_exceptions=True)
                    with suppress(StoreError):
                        await quota.release(bucket, holder)
        finally:
            self._under_way.discard(asked.name)
        for message in first:
            await send(message)

    async def _make(self, collegium: Collegium, asked: _Asked, scope: Scope, receive: Receive) -> list[Message]:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, keep)
        start = next((m for m in sent if m["type"] == "http.response.start"), None)
        data = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        if start is None or start["status"] >= 500 or start["status"] in _AGAIN or len(data) > MAX_ANSWER_BYTES:
            return sent
        headers = [(n.lower(), v) for n, v in start["headers"] if n.lower() in _KEPT_HEADERS]
        value: dict[str, Any] = {
            "fingerprint": asked.fingerprint,
            "status": start["status"],
            "headers": [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers],
            "body": base64.b64encode(data).decode(),
            "expires_us": us_of(collegium.now() + KEPT),
        }
        # Kept before it is sent: who has seen an answer gets the same one again.
        await collegium.stores.records.put(Record(kind=KIND, tenant=asked.tenant, key=asked.name, value=value))
        self._stored += 1
        if self._stored % _SWEEP_EVERY == 1:
            await self._sweep(collegium, asked.tenant)
        return sent

    async def _sweep(self, collegium: Collegium, tenant: str) -> None:
        over = Condition(field="expires_us", op="<=", value=us_of(collegium.now()))
        records = collegium.stores.records
        for record in await records.find(KIND, tenant, (over,), limit=_SWEEP_EVERY * 2):
            await records.delete(KIND, tenant, record.key)


class _Asked:
    """What was asked, by whom, under which key."""

    def __init__(self, principal: Principal, request: Request, key: str, body: bytes) -> None:
        self.tenant = principal.tenant
        self.name = _digest(principal.id, request.method, request.url.path, key)
        kind = request.headers.get("content-type", "").partition(";")[0]
        self.fingerprint = _digest(str(request.url.query), kind, hashlib.sha256(body).hexdigest())


def _key(scope: Scope) -> str | None:
    """The key of a request that has one and is of this module's concern."""
    if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
        return None
    path: str = scope["path"]
    is_ours = path.startswith("/v1/") and "principal" in scope.get("state", {})
    found = dict(scope["headers"]).get(b"idempotency-key", b"") if is_ours else b""
    return found.decode("latin-1") or None


async def _held(quota: Quota, bucket: str, holder: str) -> bool:
    """Whether nobody else is at it; a quota that is away holds up nobody."""
    try:
        return await quota.hold(bucket, holder, limit=1, ttl_s=HOLD_S)
    except StoreError as error:
        _log.warning("what other processes answer is not known now: %s", error)
        return True


async def _renew(quota: Quota, bucket: str, holder: str) -> None:
    """Holds on until it is cancelled; a quota that is away is tried again."""
    while True:
        await asyncio.sleep(HOLD_S / 3)
        with suppress(StoreError):
            await quota.hold(bucket, holder, limit=1, ttl_s=HOLD_S)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever comes."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if not is_given:
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _messages(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> list[Message]:
    length = (b"content-length", str(len(body)).encode())
    return [
        {"type": "http.response.start", "status": status, "headers": [*headers, length]},
        {"type": "http.response.body", "body": body},
    ]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
