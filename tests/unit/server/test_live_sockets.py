"""The socket: topics and commands over one connection, whatever the other side does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from collegium.domain.errors import NotAuthenticated
from collegium.domain.principal import OPERATE, READ, Principal, local
from collegium.server.sockets import ops, websocket
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import Hanging, working

SOON_S = 20.0


class Door:
    """Knows one key, and for how long it holds."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.holds = True

    async def identify(self, connection: HTTPConnection) -> Principal:
        """Who has the key."""
        if connection.headers.get("authorization") != "Bearer secret":
            raise NotAuthenticated("show the key")
        return self.principal

    async def still_valid(self, principal: Principal) -> bool:
        """Whether it holds."""
        return self.holds


@asynccontextmanager
async def socket(served: Served, **options: Any) -> AsyncIterator[ClientConnection]:
    url = served.url.replace("http://", "ws://") + "/v1/ws"
    async with connect(url, proxy=None, **options) as made:
        yield made


async def say(made: ClientConnection, **op: Any) -> None:
    await made.send(json.dumps(op))


async def heard(made: ClientConnection, *types: str) -> dict[str, Any]:
    """The next message of one of the types; others are passed over."""
    async with asyncio.timeout(SOON_S):
        while True:
            message: dict[str, Any] = json.loads(await made.recv())
            if message["type"] in types:
                return message


async def closed(made: ClientConnection) -> int | None:
    async with asyncio.timeout(SOON_S):
        await made.wait_closed()
    return made.close_code


async def events(made: ClientConnection) -> list[int]:
    """The numbers of all events that are told until the end of the run."""
    seen: list[int] = []
    while (message := await heard(made, "events", "end"))["type"] == "events":
        seen += [event["seq"] for event in message["items"]]
        assert message["after"] == seen[-1]
    return seen


async def test_a_run_is_told_from_any_place_to_its_end(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        run = await app.submit("Do both.")
        async with socket(served, subprotocols=["collegium.v1"]) as made:
            assert made.subprotocol == "collegium.v1"
            topic = f"runs.{run.id}.events"
            await say(made, op="subscribe", id=1, topics=[topic])
            everything = await events(made)
            assert everything == [event.seq for event in await app.stores.journal.read(run.id)]
            await say(made, op="subscribe", id=2, topics=[topic], after=5)
            assert await events(made) == everything[5:]
            await say(made, op="ping", id="x")
            assert await heard(made, "pong") == {"type": "pong", "id": "x"}


async def test_commands_do_what_http_does(serve: Serve) -> None:
    async with team(Hanging()) as app:
        served = await serve(app)
        run = await app.submit("Do both.")
        async with socket(served) as made:
            await say(made, op="subscribe", topics=[f"runs.{run.id}.events", "runs"])
            await say(made, op="say", id=1, run=run.id, text="And quickly.")
            assert (await heard(made, "ok", "problem"))["id"] is None
            assert (await heard(made, "ok", "problem"))["id"] == 1
            await say(made, op="approve", id=2, approval="apr_none")
            problem = await heard(made, "problem")
            assert (problem["id"], problem["problem"]["status"], problem["problem"]["code"]) == (2, 404, "not_found")
            await say(made, op="cancel", id=3, run=run.id)
            types = {(await heard(made, "ok", "end"))["type"] for _ in range(2)}
            assert types == {"ok", "end"}
        state = await app.state(run.id)
        assert (state.status, state.said[-1]) == ("cancelled", "And quickly.")


async def test_what_makes_no_sense_is_said_and_ends_nothing(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        run = await app.submit("Do both.", tenant="other")
        async with socket(served) as made:
            for text in ("", "{", "[]", '{"op":"dance"}', '{"op":"subscribe"}', '{"op":"ping","more":1}', "x" * 70_000):
                await made.send(text)
                assert (await heard(made, "problem"))["problem"]["code"] == "usage"
            await made.send(b"bytes")
            assert (await heard(made, "problem"))["problem"]["code"] == "usage"
            for topic, code in (
                (f"runs.{run.id}.events", "not_found"),
                (f"runs.{run.id}.board", "not_found"),
                ("runs.nothing.events", "not_found"),
                ("tasks.write", "usage"),
                ("views.hints", "usage"),
            ):
                await say(made, op="subscribe", topics=[topic])
                assert (await heard(made, "problem", "ok"))["problem"]["code"] == code, topic
            await say(made, op="subscribe", topics=["a"], after=-1)
            assert (await heard(made, "problem"))["problem"]["code"] == "usage"
            await say(made, op="ping")
            await heard(made, "pong")


async def test_ten_thousand_subscriptions_are_an_error_and_no_death(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "OPS_PER_S", 1e6)
    async with team(working()) as app:
        served = await serve(app)
        async with socket(served) as made:
            await say(made, op="subscribe", id="all", topics=[f"t{n}" for n in range(5_000)])
            assert (await heard(made, "problem"))["id"] == "all"
            codes: list[str] = []

            async def listen() -> None:
                while len(codes) < 10_000:
                    message = await heard(made, "ok", "problem")
                    codes.append(message["problem"]["code"] if message["type"] == "problem" else "ok")

            listening = asyncio.create_task(listen())
            for n in range(10_000):
                await say(made, op="subscribe", topics=[f"topic.{n}"])
            async with asyncio.timeout(60):
                await listening
            assert codes == ["ok"] * ops.MAX_TOPICS + ["limited"] * (10_000 - ops.MAX_TOPICS)
            await say(made, op="unsubscribe", topics=["topic.7"])
            await say(made, op="subscribe", topics=["topic.9999"])
            assert [(await heard(made, "ok", "problem"))["type"] for _ in range(2)] == ["ok", "ok"]
        assert (await served.http.get("/healthz")).status_code == 200


async def test_pages_of_other_sites_get_no_socket(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        with pytest.raises(InvalidStatus):
            async with socket(served, origin="https://evil.example"):
                pass
        async with socket(served, origin=served.url) as made:
            await say(made, op="ping")
            await heard(made, "pong")


async def test_the_first_message_may_say_who_it_is(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app, authenticator=Door(local("default")))
        async with socket(served) as made:
            await say(made, op="authenticate", token="secret", id=1)
            assert (await heard(made, "welcome"))["principal"] == "local"
            await say(made, op="ping")
            await heard(made, "pong")
        for first in ({"op": "authenticate", "token": "wrong"}, {"op": "ping"}):
            async with socket(served) as made:
                await say(made, **first)
                assert (await heard(made, "problem"))["problem"]["status"] == 401
                assert await closed(made) == websocket.EXPIRED
        with pytest.raises(InvalidStatus):
            async with socket(served, additional_headers={"authorization": "Bearer wrong"}):
                pass
        async with socket(served, additional_headers={"authorization": "Bearer secret"}) as made:
            await say(made, op="ping")
            await heard(made, "pong")


async def test_who_has_not_the_right_is_told_so(serve: Serve) -> None:
    viewer_ = Principal(id="key:v", tenant="default", scopes=READ, kind="key")
    async with team(Hanging()) as app:
        run = await app.submit("Do both.")
        served = await serve(app, authenticator=Door(viewer_))
        async with socket(served, additional_headers={"authorization": "Bearer secret"}) as made:
            for op in ({"op": "cancel", "run": run.id}, {"op": "say", "run": run.id, "text": "x"}):
                await say(made, **op)
                assert (await heard(made, "problem", "ok"))["problem"]["code"] == "not_allowed"
            await say(made, op="subscribe", topics=["workers"])
            assert (await heard(made, "problem", "ok"))["problem"]["code"] == "not_allowed"
            await say(made, op="subscribe", topics=[f"runs.{run.id}.events"])
            await heard(made, "events")


async def test_a_credential_that_ends_closes_the_socket(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CHECK_S", 0.05)
    door = Door(Principal(id="key:v", tenant="default", scopes=OPERATE, kind="key"))
    async with team(Hanging()) as app:
        run = await app.submit("Do both.")
        served = await serve(app, authenticator=door)
        async with socket(served, additional_headers={"authorization": "Bearer secret"}) as made:
            await say(made, op="subscribe", topics=[f"runs.{run.id}.events"])
            await heard(made, "events")
            door.holds = False
            assert await closed(made) == 4401


async def test_a_socket_that_looks_at_nothing_or_says_nothing_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CHECK_S", 0.05)
    monkeypatch.setattr(websocket, "IDLE_S", 0.2)
    monkeypatch.setattr(websocket, "HELLO_S", 0.2)
    async with team(working()) as app:
        served = await serve(app)
        async with socket(served) as made:
            assert await closed(made) == websocket.IDLE
        known = await serve(app, authenticator=Door(local("default")))
        async with socket(known) as made:
            assert await closed(made) == websocket.LATE


async def test_one_caller_has_not_all_sockets(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collegium.server.live.audience.MOST_OF_ONE", 2)
    door = Door(Principal(id="key:v", tenant="default", scopes=OPERATE, kind="key"))
    async with team(working()) as app:
        served = await serve(app, authenticator=door)
        headers = {"authorization": "Bearer secret"}
        async with socket(served, additional_headers=headers), socket(served, additional_headers=headers) as second:
            async with socket(served, additional_headers=headers) as third:
                assert await closed(third) == websocket.CROWDED
            await second.close()
            async with asyncio.timeout(SOON_S):
                while True:  # until the server has noticed
                    async with socket(served, additional_headers=headers) as again:
                        await say(again, op="ping")
                        try:
                            await heard(again, "pong")
                            break
                        except ConnectionClosed:
                            continue


def test_messages_have_no_more_members_than_are_known() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"op":"cancel","run":"r","tenant":"other"}', type=ops.Cancel)
