"""A connection to a server: requests that are tried again where that is safe, answers as types, problems as errors."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from collegium.client.problems import error_of
from collegium.domain.errors import StoreUnavailable, UsageError

T = TypeVar("T")
AGAIN: Final = frozenset({429, 502, 503, 504})
FIRST_S, MOST_S = 0.25, 8.0
Query = Mapping[str, str | int | float | bool | list[str]]


class Connection:
    """Asks one server.

    Args:
        url: Of the server, without a path.
        key: API key or token; none for a server that is open to this machine.
        attempts: Tries of a request that may be made again: a read, or a change with an idempotency key.
        timeout_s: For each answer.
        verify: Certificates that are trusted: a file, or True for those of the system.
        certificate: Files of the client's own certificate and key, where the server asks for one.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        attempts: int = 5,
        timeout_s: float = 60.0,
        verify: str | bool = True,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no URL of a server: write http://HOST:PORT or https://HOST", url=url)
        headers = {"accept": "application/json", "user-agent": "collegium"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        self.url = url.rstrip("/")
        self._attempts = attempts
        # Keys are sent to the server that was named: never to where a proxy of the environment leads.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            follow_redirects=False,
            trust_env=False,
            verify=_context(verify, certificate),
        )

    async def __aenter__(self) -> Self:
        """The connection itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        await self._http.aclose()

    async def get(self, path: str, kind: type[T], *, query: Query | None = None) -> T:
        """The answer to a read. Raises the error that the server's problem stands for."""
        return msgspec.json.decode((await self._ask("GET", path, query=query)).content, type=kind, strict=False)

    async def download(self, path: str) -> bytes:
        """What is at ``path``, as it is."""
        return (await self._ask("GET", path)).content

    async def post(
        self, path: str, kind: type[T], document: object = None, *, key: str | None = None, query: Query | None = None
    ) -> T:
        """The answer to a change, which happens once however often it has to be sent."""
        reply = await self._ask("POST", path, document=document, key=key or secrets.token_urlsafe(24), query=query)
        return msgspec.json.decode(reply.content or b"null", type=kind, strict=False)

    async def send(self, path: str, kind: type[T], data: bytes, *, query: Query | None = None) -> T:
        """The answer to bytes that are handed over."""
        reply = await self._ask("POST", path, content=data, key=secrets.token_urlsafe(24), query=query)
        return msgspec.json.decode(reply.content, type=kind, strict=False)

    async def delete(self, path: str) -> None:
        """Removes what is at ``path``."""
        await self._ask("DELETE", path)

    @asynccontextmanager
    async def stream(self, path: str, *, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """An answer that is read as it comes; it may stay silent for as long as the server's heartbeat."""
        timeout = httpx.Timeout(60.0, connect=10.0)
        try:
            async with self._http.stream("GET", path, headers=dict(headers), timeout=timeout) as reply:
                if reply.status_code != 200:
                    raise error_of(reply.status_code, await reply.aread(), retry_after_s=_retry_after_s(reply))
                yield reply
        except httpx.TransportError as error:
            raise _away(self.url, error) from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        document: object = None,
        content: bytes | None = None,
        key: str | None = None,
        query: Query | None = None,
    ) -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        if document is not None:
            content, headers["content-type"] = msgspec.json.encode(document), "application/json"
        elif content is not None:
            headers["content-type"] = "application/octet-stream"
        attempt = 0
        while True:
            attempt += 1
            is_last = attempt >= self._attempts
            wait_s = min(MOST_S, FIRST_S * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 not all at once
            try:
                reply = await self._http.request(method, path, params=query, content=content, headers=headers)
            except httpx.TransportError as error:
                if is_last:
                    raise _away(self.url, error) from error
            else:
                if reply.is_success:
                    return reply
                asked_s = _retry_after_s(reply)
                if is_last or not (reply.status_code in AGAIN or b'"in_progress"' in reply.content):
                    raise error_of(reply.status_code, reply.content, retry_after_s=asked_s)
                wait_s = max(wait_s, asked_s or 0.0)
            await asyncio.sleep(wait_s)


def _away(url: str, error: httpx.TransportError) -> StoreUnavailable:
    said = str(error) or type(error).__name__
    return StoreUnavailable(
        f"the server {url} cannot be reached ({said}): is `collegium serve` running there?", url=url
    )


def _retry_after_s(reply: httpx.Response) -> float | None:
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isdigit() else None


def _context(verify: str | bool, certificate: tuple[str, str] | None) -> Any:
    if verify is True and certificate is None:
        return True
    context = httpx.create_ssl_context(verify=verify is not False)
    if isinstance(verify, str):
        context.load_verify_locations(verify)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context
