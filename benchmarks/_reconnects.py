"""Viewers that leave and come again at random while their server is killed: who sees what how often?

A process of ``collegium serve`` is killed (SIGKILL) and started anew on the same port, again and again, while a run
grows. Viewers, half of them over event streams and half over sockets, break off after a random number of bytes, and
come again with the number of the last event that they have. In the end what each has seen is compared with the journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException

from collegium.app import Collegium
from collegium.config import Settings
from collegium.domain import body as b
from collegium.domain.event import Draft
from collegium.wiring import open_collegium

EVERY_S = 0.004
WAIT_S = 60.0
Away = (OSError, EOFError, httpx.HTTPError, WebSocketException, InvalidHandshake, InvalidMessage)


class Server:
    """``collegium serve`` on one port, however often it is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.kills = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "collegium.cli", "serve", "--port", str(self.port), "--workers", "0"]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM_")}
        environment = {**inherited, "COLLEGIUM_DATA_DIR": str(self._folder / "data"), "HOME": str(self._folder)}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self._folder
            )
        deadline_s = time.monotonic() + WAIT_S
        async with httpx.AsyncClient(trust_env=False) as http:
            while time.monotonic() < deadline_s:
                with suppress(httpx.HTTPError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.02)
        raise SystemExit((self._folder / "server.log").read_text())

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        assert self._process is not None
        return self._process.pid

    def cpu_s(self) -> float:
        """Processor time that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def kill(self) -> None:
        """Ends it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            self._process = None
            self.kills += 1


class Viewer:
    """Somebody who follows a run to its end, and is not good at staying."""

    def __init__(self, server: Server, run: str, *, is_socket: bool, dice: random.Random) -> None:
        self._server = server
        self._run = run
        self._once = self._by_socket if is_socket else self._by_stream
        self._dice = dice
        self.seen: list[int] = []
        self.connections = 0
        self.is_done = False
        self.may_leave = True

    async def follow(self) -> None:
        """Comes again until the run has ended."""
        while not self.is_done:
            most = self._dice.randint(0, 60) if self.may_leave else 1 << 60
            try:
                await self._once(most)
            except Away:
                await asyncio.sleep(0.01)

    @property
    def _after(self) -> int:
        return self.seen[-1] if self.seen else 0

    async def _by_stream(self, most: int) -> None:
        """One request; what comes with the piece in which it breaks off is lost on the way."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            path = f"/v1/runs/{self._run}/events"
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            writer.write(f"{head}Last-Event-ID: {self._after}\r\n\r\n".encode())
            if b" 200 " not in await reader.readline():
                return
            self.connections += 1
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    number = int(line[4:])
                elif line.startswith(b"data: {") and line.endswith(b"}\n"):
                    if b'"after":' in line[:20]:
                        continue
                    self.seen.append(number)
                    most -= 1
                elif line.startswith(b"event: end"):
                    self.is_done = True
                    return
                if most <= 0:
                    return
        finally:
            writer.transport.abort()

    async def _by_socket(self, most: int) -> None:
        url = f"ws://127.0.0.1:{self._server.port}/v1/ws"
        async with connect(url, proxy=None, compression=None, close_timeout=0.1, open_timeout=5) as made:
            topic = f"runs.{self._run}.events"
            subscribe = {"op": "subscribe", "topics": [topic], "after": self._after}
            await made.send(json.dumps(subscribe))
            self.connections += 1
            async for text in made:
                message = json.loads(text)
                if message["type"] == "events":
                    numbers = [event["seq"] for event in message["items"]]
                    self.seen += numbers
                    most -= len(numbers)
                elif message["type"] == "resync":
                    await made.send(json.dumps({**subscribe, "after": message["after"]}))
                elif message["type"] == "end":
                    self.is_done = True
                if self.is_done or most <= 0:
                    made.transport.abort()
                    return


async def measure(*, rounds: int, kills: int, viewers: int, seed: int) -> dict[str, Any]:
    """How often viewers came again, and what they have seen twice or not at all."""
    with tempfile.TemporaryDirectory(prefix="reconnects-") as name:
        folder = Path(name)
        server = Server(folder)
        settings = Settings(data_dir=folder / "data")
        async with open_collegium(settings, scope="none", model="scripted:none") as app:
            run = (await app.submit("What is due?")).id
            growing = asyncio.create_task(grow(app, run))
            await server.start()
            dice = random.Random(seed)
            those = [
                Viewer(server, run, is_socket=n % 2 == 0, dice=random.Random(dice.random())) for n in range(viewers)
            ]
            following = [asyncio.create_task(one.follow()) for one in those]
            try:
                begun_s = time.monotonic()
                for number in range(kills):
                    await until(those, rounds * (number + 1) // (kills + 1))
                    await asyncio.sleep(dice.random() * 0.05)
                    await server.kill()
                    await server.start()
                await until(those, rounds)
                for one in those:
                    one.may_leave = False
                growing.cancel()
                await asyncio.gather(growing, return_exceptions=True)
                await app.cancel(run)
                async with asyncio.timeout(WAIT_S):
                    await asyncio.gather(*following)
                seconds = time.monotonic() - begun_s
            finally:
                for task in (growing, *following):
                    task.cancel()
                await asyncio.gather(growing, *following, return_exceptions=True)
                await server.kill()
            stored = [event.seq for event in await everything(app, run)]
        return {
            "viewers": viewers,
            "connections": sum(one.connections for one in those),
            "kills": server.kills - 1,
            "events": len(stored),
            "told": sum(len(one.seen) for one in those),
            "twice": sum(len(one.seen) - len(set(one.seen)) for one in those),
            "missing": sum(len(set(stored) - set(one.seen)) for one in those),
            "out_of_order": sum(one.seen != sorted(one.seen) for one in those),
            "seconds": round(seconds, 1),
        }


async def until(viewers: list[Viewer], connections: int) -> None:
    """Returns once the viewers have come so often."""
    deadline_s = time.monotonic() + WAIT_S + connections
    while sum(one.connections for one in viewers) < connections:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"viewers came {sum(one.connections for one in viewers)} times, not {connections}")
        await asyncio.sleep(0.005)


async def grow(app: Collegium, run: str) -> None:
    """Adds to the run, until it is cancelled."""
    number = 0
    while True:
        number += 1
        await note(app, run, str(number))
        await asyncio.sleep(EVERY_S)


async def note(app: Collegium, run: str, text: str) -> None:
    """One more event."""
    body = b.FeedbackGiven(is_good=True, principal="local", note=text)
    draft = Draft(id=f"evt_{os.urandom(16).hex()}", tenant="default", at=app.now(), body=body)
    await app.stores.journal.append(run, [draft]).durable()
    app.scheduler.hints.moved(run)


async def everything(app: Collegium, run: str) -> list[Any]:
    """All events that are stored."""
    found: list[Any] = []
    while page := await app.stores.journal.read(run, len(found)):
        found += page
    return found


def show(found: dict[str, Any]) -> None:
    """Prints it."""
    print(
        f"{found['viewers']} viewers came {found['connections']:,} times in {found['seconds']:.0f} s, their server was "
        f"killed {found['kills']} times: of {found['events']:,} events, {found['told']:,} were told, "
        f"{found['missing']} missing, {found['twice']} twice, {found['out_of_order']} out of order"
    )
