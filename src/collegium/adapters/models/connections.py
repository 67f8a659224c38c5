"""HTTP connections, shared by all models of one registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:  # it takes a fifth of a second to import, which commands that call no model need not wait
    import aiohttp


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds a model server is waited for. ``between_bytes_s`` also covers the wait for the first byte."""

    connect_s: float = 10.0
    between_bytes_s: float = 120.0
    total_s: float = 600.0

    def for_aiohttp(self) -> aiohttp.ClientTimeout:
        """The same, as aiohttp takes it."""
        import aiohttp

        return aiohttp.ClientTimeout(total=self.total_s, sock_connect=self.connect_s, sock_read=self.between_bytes_s)


class Connections:
    """One pool of kept-alive connections, opened with the first call, of one event loop.

    Args:
        max_connections: In all, to all servers; further calls wait for a free one.
        keep_alive_s: How long an idle connection is kept.
    """

    def __init__(self, *, max_connections: int = 1_000, keep_alive_s: float = 30.0) -> None:
        self._max_connections = max_connections
        self._keep_alive_s = keep_alive_s
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session; call it from the event loop."""
        if self._session is None or self._session.closed:
            import aiohttp

            connector = aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=self._keep_alive_s, ttl_dns_cache=300
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "collegium"},
                auto_decompress=True,
            )
        return self._session

    async def aclose(self) -> None:
        """Closes every connection; twice is harmless."""
        if self._session is not None:
            await self._session.close()
            self._session = None
