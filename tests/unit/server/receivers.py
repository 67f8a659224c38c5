"""Receivers of webhooks and couriers, for tests."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

from aiohttp import web

from collegium.adapters.webhooks import HttpSender
from collegium.app import Collegium
from collegium.domain.chat import Json
from collegium.domain.ids import Ids
from collegium.runtime.courier import Courier
from collegium.runtime.webhooks import Webhooks
from collegium.testing.clock import FakeClock
from tests.unit.server.conftest import Served
from tests.unit.stores.moved import PLAN

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Receiver:
    """A server that takes messages and answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.hold: asyncio.Event | None = None
        self.came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        self.came.set()
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=self.status, headers=self.headers, body=b"x" * 100_000)

    @property
    def told(self) -> list[Json]:
        return [json.loads(body) for _, body in self.got]

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.told]


def courier(app: Collegium, clock: FakeClock, *, name: str = "one", networks: tuple[str, ...] = LOOPBACK) -> Courier:
    ids = Ids(lambda: int(clock.now().timestamp() * 1_000))
    return Courier(
        name,
        Webhooks(app.stores.records, now=clock.now, ids=ids),
        HttpSender(networks, timeout_s=5.0),
        journal=app.stores.journal,
        records=app.stores.records,
        clock=clock,
        random=lambda: 0.5,
    )


async def swept(one: Courier) -> None:
    assert await one.sweep()
    await one.settled()


def ahead() -> FakeClock:
    """A clock that is a little ahead of the real one, by which runs and hooks are made."""
    return FakeClock(datetime.now(UTC) + timedelta(seconds=60))


async def made(served: Served, url: str, **fields: object) -> tuple[str, str]:
    reply = await served.http.post("/v1/webhooks", json={"url": url, **fields})
    assert reply.status_code == 201, reply.text
    found = reply.json()
    return found["webhook"]["id"], found["secret"]


async def done(app: Collegium, **fields: object) -> str:
    run = await app.submit("Do both: it is confidential.", plan=PLAN)
    await run.result()
    return run.id
