"""The client of ``benchmarks/api.py``: keeps connections busy with one request after the other, as lean as can be."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit


class Asker(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is there."""

    def __init__(self, request: list[bytes], until: float, ended: asyncio.Future[None]) -> None:
        self._request = request
        self._until = until
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sent = 0.0
        self._number = 0
        self.took: list[float] = []
        self.statuses: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            return
        head, *rest = self._request
        # A change has an idempotency key of its own each time.
        self._transport.write(
            head if not rest else head.replace(b"KEY", f"{id(self)}-{self._number}".encode()) + rest[0]
        )
        self._number += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.took.append(time.perf_counter() - self._sent)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def load(url: str, method: str, path: str, *, connections: int, seconds: float, body: str, key: str) -> object:
    """Asks for ``seconds`` and says how often, how long it took, and what came."""
    where = urlsplit(url)
    extra = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\nAccept: application/json\r\n{extra}"
    request = [f"{head}\r\n".encode()]
    if body:
        more = f"Content-Type: application/json\r\nIdempotency-Key: KEY\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        request = [(head + more).encode(), body.encode()]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    askers, ends = [], []
    for _ in range(connections):
        ended = loop.create_future()
        _, asker = await loop.create_connection(
            lambda ended=ended: Asker(request, began + seconds, ended),  # type: ignore[misc]
            where.hostname,
            where.port,
        )
        askers.append(asker)
        ends.append(ended)
    await asyncio.gather(*ends)
    took = sorted(t for a in askers for t in a.took)
    statuses: dict[int, int] = {}
    for asker in askers:
        for status, count in asker.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return {
        "per_s": len(took) / (time.perf_counter() - began),
        "p50_ms": 1e3 * took[len(took) // 2],
        "p99_ms": 1e3 * took[int(len(took) * 0.99)],
        "statuses": statuses,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("path")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    o = parser.parse_args()
    asked = load(o.url, o.method, o.path, connections=o.connections, seconds=o.seconds, body=o.body, key=o.key)
    print(json.dumps(asyncio.run(asked)))


if __name__ == "__main__":
    main()
