"""Sends messages to webhooks over HTTP, to addresses that may be reached and to no other.

A URL comes from a user, and this process may stand where that user does not: its name is looked up once, every
address it has is judged, and the connection goes to one of those that were judged. Nothing is followed, little is read,
and nothing of what the other side says gets further than a short line.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from collegium.runtime.courier import SEND_S, Reply

MAX_READ_BYTES: Final = 1_024
CONNECT_S: Final = 5.0
_NAT64: Final = IPv6Network("64:ff9b::/96")
_REFUSED: Final = "the address may not be reached from here: it is not a public one (webhooks.networks allows others)"


class HttpSender:
    """Implements ``Sender``.

    Args:
        networks: Networks that may be reached although they are not public, e.g. ``10.1.0.0/16``. Plain http goes to
            loopback alone, where that is among them.
        context: Whom TLS trusts, if not those whom the system does.
        timeout_s: So long an attempt may take.
    """

    def __init__(
        self, networks: Sequence[str] = (), *, context: ssl.SSLContext | None = None, timeout_s: float = SEND_S
    ) -> None:
        self._networks = tuple(ip_network(one) for one in networks)
        self._context = context
        self._timeout_s = timeout_s

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        """What came of it within ``timeout_s``; never raises for what the other side does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(url, headers, body)
        except TimeoutError:
            return Reply(status=None, detail=f"there was no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(status=None, detail=f"it could not be reached: {type(error).__name__}")

    async def _send(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(one[4][0]).split("%")[0] for one in found]
        if not addresses or not all(self._may_reach(ip_address(one), parts.scheme) for one in addresses):
            return Reply(status=None, detail=_REFUSED, is_refused=True)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses), use_dns_cache=False, ssl=self._context or True, force_close=True
        )
        timeout = aiohttp.ClientTimeout(total=self._timeout_s, connect=CONNECT_S)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as reply,
        ):
            await reply.content.read(MAX_READ_BYTES)
            return Reply(status=reply.status, detail=_told(reply.status))

    def _may_reach(self, address: IPv4Address | IPv6Address, scheme: str) -> bool:
        """Whether a message may go there."""
        address = _inner(address)
        is_allowed = any(address in one for one in self._networks)
        if scheme != "https":
            return address.is_loopback and is_allowed
        return is_allowed or (address.is_global and not address.is_multicast)


class _Pinned(AbstractResolver):
    """Knows the addresses that were judged, and nothing else."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in self._addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to, where it leads to one.

    Source: RFC 4291 section 2.5.5.2, RFC 3056, RFC 4380, RFC 6052.
    """
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def _told(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"it answered {status}: redirects are not followed, give the address itself"
    return f"it answered {status}"
