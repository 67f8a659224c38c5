"""Webhooks: made over HTTP, told by a courier, received by a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from collegium.adapters.webhooks import HttpSender
from collegium.domain.errors import NotAuthenticated, StoreUnavailable
from collegium.domain.ids import Ids
from collegium.domain.principal import Principal, scopes_of
from collegium.domain.record import Record
from collegium.domain.webhook import MAX_ATTEMPTS, verify_webhook
from collegium.ports import Records
from collegium.runtime.courier import DISABLE_AFTER, KEPT, LEASE_S, Courier
from collegium.runtime.webhooks import Webhooks
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from tests.unit.server.conftest import Serve
from tests.unit.server.people import Somebody
from tests.unit.server.receivers import LOOPBACK, Receiver, ahead, courier, done, made, swept
from tests.unit.stores.moved import PLAN, working


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/hook", made.take)
    app.router.add_post("/other", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}/hook"
    yield made
    if made.hold is not None:
        made.hold.set()
    await runner.cleanup()


async def test_a_receiver_is_told_what_has_happened_and_can_tell_that_it_is_us(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        await done(app)
        _, secret = await made(served, receiver.url, types=["run.submitted", "run.finished"])
        run = await done(app)
        await swept(courier(app, clock))
        assert sorted(receiver.types) == ["run.finished", "run.submitted"]  # nothing of the run before it was made
        assert {one["data"]["run_id"] for one in receiver.told} == {run}
        assert b"confidential" not in b"".join(body for _, body in receiver.got)
        for headers, body in receiver.got:
            assert verify_webhook(secret, headers, body, now=clock.now()) == headers["webhook-id"]
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2
        await swept(courier(app, clock))
        assert len(receiver.got) == 2


async def test_what_was_changed_or_is_old_does_not_pass_for_ours(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, secret = await made(served, receiver.url)
        await served.http.post(f"/v1/webhooks/{hook}/test")
        await swept(courier(app, clock))
        ((headers, body),) = receiver.got
        now = clock.now()
        assert json.loads(body)["type"] == "webhook.test"
        verify_webhook(secret, headers, body, now=now)
        for wrong in (
            lambda: verify_webhook(secret, headers, body + b" ", now=now),
            lambda: verify_webhook(secret, {**headers, "webhook-id": "msg_other"}, body, now=now),
            lambda: verify_webhook(secret, {**headers, "webhook-timestamp": "17"}, body, now=now),
            lambda: verify_webhook(secret, {**headers, "webhook-signature": "v1,"}, body, now=now),
            lambda: verify_webhook(secret, {}, body, now=now),
            lambda: verify_webhook("whsec_" + "A" * 44, headers, body, now=now),
            lambda: verify_webhook(secret, headers, body, now=now + timedelta(seconds=301)),
            lambda: verify_webhook(secret, headers, body, now=now - timedelta(seconds=301)),
        ):
            with pytest.raises(NotAuthenticated):
                wrong()


async def test_while_a_secret_is_replaced_both_hold(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, old = await made(served, receiver.url)
        new = (await served.http.post(f"/v1/webhooks/{hook}/rotate")).json()["secret"]
        assert new != old
        shown = (await served.http.get(f"/v1/webhooks/{hook}")).text + (await served.http.get("/v1/webhooks")).text
        assert "whsec_" not in shown
        one = courier(app, clock)
        await served.http.post(f"/v1/webhooks/{hook}/test")
        await swept(one)
        headers, body = receiver.got[-1]
        for secret in (old, new):
            verify_webhook(secret, headers, body, now=clock.now())
        await clock.advance(86_400)
        await served.http.post(f"/v1/webhooks/{hook}/test")
        await swept(one)
        headers, body = receiver.got[-1]
        verify_webhook(new, headers, body, now=clock.now())
        with pytest.raises(NotAuthenticated):
            verify_webhook(old, headers, body, now=clock.now())


async def test_a_message_is_sent_until_it_arrives_and_a_restart_loses_nothing(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, _ = await made(served, receiver.url, types=["run.finished"])
        await done(app)
        receiver.status = 503
        for attempt in range(1, 4):
            await swept(courier(app, clock, name="always the same"))  # a new one each time: nothing is in memory
            assert len(receiver.got) == attempt
            (waiting,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries?status=pending")).json()["items"]
            assert (waiting["attempts"], waiting["status_code"]) == (attempt, 503)
            await clock.advance(700)
        receiver.status = 204
        await swept(courier(app, clock, name="always the same"))
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        (over,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries")).json()["items"]
        assert (over["status"], over["attempts"], over["status_code"]) == ("delivered", 4, 204)
        await clock.advance((KEPT + timedelta(hours=1)).total_seconds())
        await swept(courier(app, clock, name="always the same"))
        assert (await served.http.get(f"/v1/webhooks/{hook}/deliveries")).json()["items"] == []


class Failing:
    """Records of which the put number ``at`` fails, as if the process had ended there."""

    def __init__(self, records: Records, at: int) -> None:
        self._records = records
        self._left = at

    def __getattr__(self, name: str) -> object:
        return getattr(self._records, name)

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        self._left -= 1
        if self._left == 0:
            raise StoreUnavailable("gone")
        return await self._records.put(record, expected=expected)


@pytest.mark.parametrize("at", range(1, 9))
async def test_wherever_a_courier_ends_the_next_one_tells_the_rest(serve: Serve, receiver: Receiver, at: int):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        await made(served, receiver.url, types=["run.submitted", "run.finished"])
        await done(app)
        ids = Ids(lambda: 0)
        failing: Any = Failing(app.stores.records, at)
        ending = Courier(
            "first",
            Webhooks(failing, now=clock.now, ids=ids),
            HttpSender(LOOPBACK),
            journal=app.stores.journal,
            records=failing,
            clock=clock,
            random=lambda: 0.5,
        )
        with suppress(StoreUnavailable):
            await ending.sweep()
        await ending.settled()
        await clock.advance(3_600)
        await swept(courier(app, clock, name="second"))
        assert set(receiver.types) == {"run.submitted", "run.finished"}
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


async def test_what_was_given_up_is_seen_and_sent_again(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, _ = await made(served, receiver.url, types=["run.finished"])
        await done(app)
        receiver.status = 500
        one = courier(app, clock)
        for attempt in range(1, MAX_ATTEMPTS):
            await swept(one)
            (waiting,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries?status=pending")).json()["items"]
            assert waiting["attempts"] == attempt
            due = datetime.fromisoformat(waiting["next_at"]) - clock.now()
            await clock.advance(due.total_seconds() + 1)
        await swept(one)
        (dead,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries?status=dead")).json()["items"]
        assert (dead["attempts"], dead["next_at"]) == (MAX_ATTEMPTS, None)
        receiver.status = 200
        reply = await served.http.post(f"/v1/webhooks/{hook}/deliveries/{dead['id']}/redeliver")
        assert reply.status_code == 202
        await swept(one)
        (over,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries")).json()["items"]
        assert (over["id"], over["status"]) == (dead["id"], "delivered")


async def test_a_receiver_that_is_away_for_days_or_gone_is_told_nothing_more(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        gone, _ = await made(served, receiver.url, types=["run.finished"])
        one = courier(app, clock)
        receiver.status = 410
        await done(app)
        await swept(one)
        shown = (await served.http.get(f"/v1/webhooks/{gone}")).json()
        assert "410" in shown["disabled"]
        await served.http.delete(f"/v1/webhooks/{gone}")
        away, _ = await made(served, receiver.url, types=["run.finished"])
        receiver.status = 500
        await done(app)
        await swept(one)
        assert (await served.http.get(f"/v1/webhooks/{away}")).json()["disabled"] == ""
        await clock.advance(DISABLE_AFTER.total_seconds() + 60)
        await swept(one)
        assert "nothing has arrived since" in (await served.http.get(f"/v1/webhooks/{away}")).json()["disabled"]
        before = len(receiver.got)
        await clock.advance(86_400)
        await swept(one)
        assert len(receiver.got) == before
        receiver.status = 200
        assert (await served.http.post(f"/v1/webhooks/{away}/enable")).json()["disabled"] == ""
        await swept(one)
        assert len(receiver.got) == before + 1


async def test_one_process_sends_and_another_takes_over(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        await made(served, receiver.url, types=["run.finished"])
        first, second = courier(app, clock, name="first"), courier(app, clock, name="second")
        await done(app)
        await swept(first)
        assert not await second.sweep()
        await done(app)
        await clock.advance(LEASE_S + 1)  # the first one is dead
        await swept(second)
        assert not await first.sweep()
        assert len(receiver.got) == 2


async def test_a_slow_receiver_keeps_nobody_waiting(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        await made(served, receiver.url, types=["run.finished"])
        receiver.hold = asyncio.Event()
        one = courier(app, clock)
        await done(app)
        assert await one.sweep()
        await asyncio.wait_for(receiver.came.wait(), 10)
        other = Receiver()
        async with listening(other):
            await made(served, other.url, types=["run.finished"])
            await done(app)
            assert await one.sweep()
            await asyncio.wait_for(other.came.wait(), 10)
            assert len(receiver.got) == 1
        receiver.hold.set()
        await one.settled()


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield
    await runner.cleanup()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/hook",
        "https://127.0.0.1:{port}/hook",
        "https://localhost:{port}/hook",
        "https://2130706433:{port}/hook",
        "https://0x7f.1:{port}/hook",
        "https://[::1]:{port}/hook",
        "https://[::ffff:127.0.0.1]:{port}/hook",
        "https://[64:ff9b::7f00:1]:{port}/hook",
        "https://0.0.0.0:{port}/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00::1]/hook",
        "https://[fe80::1]/hook",
    ],
)
async def test_addresses_that_are_not_public_are_not_reached(serve: Serve, receiver: Receiver, url: str):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, _ = await made(served, url.format(port=receiver.url.split(":")[2].split("/")[0]))
        await served.http.post(f"/v1/webhooks/{hook}/test")
        await swept(courier(app, clock, networks=()))
        assert receiver.got == []
        (dead,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries")).json()["items"]
        assert dead["status"] == "dead"
        assert "may not be reached" in dead["detail"]


async def test_redirects_are_not_followed(serve: Serve, receiver: Receiver):
    async with team(working()) as app:
        served, clock = await serve(app), ahead()
        hook, _ = await made(served, receiver.url)
        receiver.status, receiver.headers = 307, {"location": receiver.url.replace("/hook", "/other")}
        await served.http.post(f"/v1/webhooks/{hook}/test")
        await swept(courier(app, clock))
        assert len(receiver.got) == 1
        (waiting,) = (await served.http.get(f"/v1/webhooks/{hook}/deliveries")).json()["items"]
        assert "not followed" in waiting["detail"]


async def test_what_does_not_do_is_refused(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        for url in (
            "http://example.org/", "ftp://example.org/", "https://", "https://user:pw@example.org/", "x",
            "https://example.org/#x", "https://example.org:99999/", "https://ex ample.org/", "https://ex\u00e4mple.org/",
        ):  # fmt: skip
            reply = await served.http.post("/v1/webhooks", json={"url": url})
            assert (reply.status_code, reply.json()["code"]) == (400, "usage"), (url, reply.text)
        for body in ({}, {"url": 7}, {"url": "https://a.example/", "types": ["step.proposed"]}, {"url": "x" * 3_000}):
            assert (await served.http.post("/v1/webhooks", json=body)).status_code == 422
        for number in range(50):
            await made(served, f"https://example.org/{number}")
        assert (await served.http.post("/v1/webhooks", json={"url": "https://a.example/"})).status_code == 409
        page = (await served.http.get("/v1/webhooks?limit=20")).json()
        rest = (await served.http.get("/v1/webhooks", params={"after": page["next"], "limit": 200})).json()
        urls = [one["url"] for one in page["items"] + rest["items"]]
        assert urls == [f"https://example.org/{number}" for number in range(50)]


async def test_other_tenants_webhooks_are_not_there_and_rights_hold(serve: Serve, receiver: Receiver):
    stores = memory_stores(FakeClock())
    async with team(working(), stores=stores) as app:
        served, clock = await serve(app), ahead()
        hook, _ = await made(served, receiver.url)
        reply = await served.http.post(f"/v1/webhooks/{hook}/test")
        message = reply.json()["id"]
        stranger = Principal(id="key:s", tenant="other", scopes=scopes_of(["admin"]), kind="key")
        operator = Principal(id="key:o", tenant="default", scopes=scopes_of(["operator"]), kind="key")
        asks: list[tuple[str, str]] = [
            ("GET", f"/v1/webhooks/{hook}"),
            ("DELETE", f"/v1/webhooks/{hook}"),
            ("POST", f"/v1/webhooks/{hook}/rotate"),
            ("POST", f"/v1/webhooks/{hook}/enable"),
            ("POST", f"/v1/webhooks/{hook}/test"),
            ("GET", f"/v1/webhooks/{hook}/deliveries"),
            ("POST", f"/v1/webhooks/{hook}/deliveries/{message}/redeliver"),
        ]
        for principal, status in ((stranger, 404), (operator, 403)):
            served = await serve(app, authenticator=Somebody(principal))
            for method, path in asks:
                assert (await served.http.request(method, path)).status_code == status, path
        # An event of another tenant is not told here.
        run = await app.submit("Do both.", plan=PLAN, tenant="other")
        await run.result()
        await swept(courier(app, clock))
        assert receiver.types == ["webhook.test"]
