"""The sender of webhooks over real TLS, and the courier on stores with real files and servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from collegium.adapters.webhooks import HttpSender
from collegium.domain.ids import Ids
from collegium.runtime.courier import Courier
from collegium.runtime.webhooks import Webhooks
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.stores.moved import PLAN, opened, working

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Taker:
    """What was received, and where."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.read())
        return web.Response()


async def serving(taker: Taker, context: ssl.SSLContext | None = None) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/", taker.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    taker.port = runner.addresses[0][1]
    return runner


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Taker]:
    """A receiver whose certificate is for ``localhost``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    taker = Taker()
    runner = await serving(taker, context)
    yield taker
    await runner.cleanup()


async def test_messages_go_to_whom_the_certificate_is_for(authority: trustme.CA, secure: Taker):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    sender = HttpSender(LOOPBACK, context=trusting)
    reply = await sender.send(f"https://localhost:{secure.port}/", {}, b"one")
    assert (reply.status, secure.got) == (200, [b"one"])
    for sends, host in ((sender, "127.0.0.1"), (HttpSender(LOOPBACK), "localhost")):
        reply = await sends.send(f"https://{host}:{secure.port}/", {}, b"two")
        assert (reply.status, reply.is_refused) == (None, False)
        assert reply.detail.startswith("it could not be reached: ")
    assert secure.got == [b"one"]


async def test_a_name_is_looked_up_once_and_what_was_judged_is_reached(monkeypatch: pytest.MonkeyPatch):
    taker = Taker()
    runner = await serving(taker)
    asked: list[str] = []

    async def lookup(host: str, port: int, **rest: object) -> list[tuple[object, ...]]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    reply = await HttpSender(LOOPBACK).send(f"http://rebinding.test:{taker.port}/", {}, b"one")
    assert (reply.status, taker.got, asked) == (200, [b"one"], ["rebinding.test"])
    reply = await HttpSender(LOOPBACK).send(f"http://rebinding.test:{taker.port}/", {}, b"two")
    assert reply.is_refused
    await runner.cleanup()


async def test_who_does_not_answer_in_time_is_left():
    with_nobody = HttpSender(LOOPBACK, timeout_s=0.2)
    taker = Taker()
    runner = await serving(taker)
    await runner.cleanup()
    reply = await with_nobody.send(f"http://127.0.0.1:{taker.port}/", {}, b"")
    assert reply.status is None
    reply = await with_nobody.send("https://no-such-host.invalid/", {}, b"")
    assert (reply.status, reply.is_refused) == (None, False)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_every_event_is_told_once_however_often_the_courier_begins_anew(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = f"sqlite:///{tmp_path / 'c.db'}" if store == "sqlite" else request.getfixturevalue("postgres_url")
    taker = Taker()
    runner = await serving(taker)
    clock = FakeClock(datetime.now(UTC) + timedelta(seconds=60))
    async with opened(url) as stores, team(working(), stores=stores) as app:
        hooks = Webhooks(stores.records, now=lambda: datetime.now(UTC), ids=Ids(lambda: 0))
        hook = await hooks.add(f"http://127.0.0.1:{taker.port}/", (), tenant="default", principal="local")
        runs = []
        for _ in range(3):
            run = await app.submit("Do both.", plan=PLAN)
            await run.result()
            runs.append(run.id)
            courier = Courier(
                "one",
                Webhooks(stores.records, now=clock.now, ids=Ids(lambda: 0)),
                HttpSender(LOOPBACK),
                journal=stores.journal,
                records=stores.records,
                clock=clock,
                random=lambda: 0.5,
            )
            assert await courier.sweep()
            await courier.settled()
        told = b"\n".join(taker.got).decode()
        for one in runs:
            assert told.count('"type":"run.finished"') == 3
            assert one in told
        done = await hooks.deliveries(hook.id, tenant="default", status="delivered")
        assert len(done) == len(taker.got) == len({one.id for one in done})
        await hooks.remove(hook.id, tenant="default")
        assert await hooks.deliveries(hook.id, tenant="default") == ()
    await runner.cleanup()
