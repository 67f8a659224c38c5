"""Many who follow one run over sockets: how soon they are told, and what the server takes for it.

The server (``collegium serve --workers 0``) is one process, the writer of the run another, and all viewers together a
third one on the same cores: what they need to read is part of every figure. "late ms" is from the moment before an
event was appended to the moment when a viewer has read it: commit, hint, reading and telling. Slow viewers
subscribe with small buffers and then take nothing; the limits are those of the requirement P7.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import _reconnects

from collegium.config import Settings
from collegium.wiring import open_collegium

BAR = {"p99_ms": 500.0, "rss_mib": 150.0}
_NOTE = re.compile(rb'"note":"(\d+)"')
_WARM_S = 2.0
_HISTORY = 2_000


def measure(viewers: int, slow: int, per_s: float, seconds: float) -> dict[str, Any]:
    """Without and with slow ones."""
    rounds = [asyncio.run(_round(viewers, count, per_s, seconds)) for count in (0, slow)]
    return {"viewers": viewers, "per_s": per_s, "seconds": seconds, "bar": BAR, "rounds": rounds}


async def _round(viewers: int, slow: int, per_s: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="viewers-") as name:
        folder = Path(name)
        server = _reconnects.Server(folder)
        async with open_collegium(Settings(data_dir=folder / "data"), scope="none", model="scripted:none") as app:
            run = (await app.submit("What is due?")).id
            for _ in range(_HISTORY):
                await _reconnects.note(app, run, "-" * 2_000)
        await server.start()
        alone_mib = rss_mib(server.pid)
        child = subprocess.Popen(  # noqa: ASYNC220 - its output is read at its end
            [sys.executable, __file__, str(server.port), run, str(viewers), str(slow)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            await asyncio.to_thread(child.stdout.readline)
            async with open_collegium(Settings(data_dir=folder / "data"), scope="none", model="scripted:none") as app:
                before_s, begun_s, count = server.cpu_s(), time.monotonic(), 0
                while time.monotonic() - begun_s < seconds + _WARM_S:
                    await _reconnects.note(app, run, str(time.time_ns()))
                    count += 1
                    await asyncio.sleep(max(0.0, begun_s + count / per_s - time.monotonic()))
                share = (server.cpu_s() - before_s) / (time.monotonic() - begun_s)
                await asyncio.sleep(1.0)  # the slowest are told the last event
            with_mib = rss_mib(server.pid)
            said, _ = await asyncio.to_thread(child.communicate, "end\n")
        finally:
            child.kill()
            await server.kill()
        found: dict[str, Any] = json.loads(said)
        return {
            "slow": slow,
            "events": count,
            **found,
            "rss_alone_mib": round(alone_mib, 1),
            "rss_mib": round(with_mib, 1),
            "core": round(share, 3),
        }


def rss_mib(pid: int) -> float:
    """The memory of a process."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def show(found: dict[str, Any]) -> None:
    """Prints it."""
    print(f"{found['viewers']:,} viewers of one run, {found['per_s']:g} events/s")
    names = ("slow", "told", "whole", "p50 ms", "p99 ms", "max ms", "x bar", "MiB", "x bar", "core")
    print(" ".join(f"{name:>9}" for name in names))
    for one in found["rounds"]:
        bars = one["p99_ms"] / BAR["p99_ms"], one["rss_mib"] / BAR["rss_mib"]
        print(
            f"{one['slow']:9} {one['told']:9,} {one['whole']:9.2f} {one['p50_ms']:9.1f} {one['p99_ms']:9.1f} "
            f"{one['max_ms']:9.1f} {bars[0]:9.2f} {one['rss_mib']:9.1f} {bars[1]:9.2f} {one['core']:9.2f}"
        )


class Reader(asyncio.Protocol):
    """A viewer that notes when each event came; as lean as can be."""

    def __init__(self, run: str, late_ms: list[float], *, is_slow: bool) -> None:
        self._run = run
        self._late_ms = late_ms
        self._is_slow = is_slow
        self._is_open = False
        self._rest = b""
        self._begun_s = 0.0
        self.count = 0
        self.is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            (
                f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        if not self._is_open:
            self._is_open = True
            self._begun_s = time.monotonic()
            # A slow one asks for more than all buffers on the way hold.
            after = 0 if self._is_slow else _HISTORY
            subscribe = {"op": "subscribe", "topics": [f"runs.{self._run}.events"], "after": after}
            self._transport.write(frame(1, json.dumps(subscribe).encode()))
            if self._is_slow:
                self._transport.pause_reading()
            return
        text = self._rest + data
        if b"\x89\x04" in data[:2]:  # a ping of the server, alone in its packet
            self._transport.write(frame(10, data[2:6]))
            return
        last = 0
        for found in _NOTE.finditer(text):
            self.count += 1
            last = found.end()
            if time.monotonic() - self._begun_s >= _WARM_S:
                self._late_ms.append((now_ns - int(found[1])) / 1e6)
        self._rest = text[last:][-200:]

    def connection_lost(self, error: Exception | None) -> None:
        self.is_gone = True


def frame(opcode: int, data: bytes) -> bytes:
    """A client's frame of less than 126 bytes. Source: RFC 6455, section 5.2."""
    mask = os.urandom(4)
    return bytes((0x80 | opcode, 0x80 | len(data))) + mask + bytes(one ^ mask[n % 4] for n, one in enumerate(data))


async def view(port: int, run: str, viewers: int, slow: int) -> None:
    """Plays all viewers; says what they have seen once standard input ends."""
    loop, late_ms, readers = asyncio.get_running_loop(), list[float](), list[Reader]()
    for number in range(viewers + slow):
        made = Reader(run, late_ms, is_slow=number >= viewers)
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096 if number >= viewers else 65_536)
        end.setblocking(False)
        await loop.sock_connect(end, ("127.0.0.1", port))
        await loop.create_connection(lambda made=made: made, sock=end)  # type: ignore[misc]
        readers.append(made)
    await asyncio.sleep(1.0)  # what is there already is told before it is measured
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    late_ms.sort()
    counts = [one.count for one in readers[:viewers]]
    cuts = statistics.quantiles(late_ms, n=100)
    result = {
        "told": sum(counts),
        "least": min(counts),
        "most": max(counts),
        "whole": sum(count == max(counts) for count in counts) / viewers,
        "gone": sum(one.is_gone for one in readers),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(late_ms[-1], 1),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(view(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
