"""Who is slow is told to resync, misses nothing, and nobody waits for it; what is kept for it is bounded."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.app import Collegium
from collegium.domain.chat import ChatMessage, Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.principal import local
from collegium.domain.usage import Usage
from collegium.runtime.wishes import Wishes
from collegium.server.access.live import LiveAccess
from collegium.server.live import watch
from collegium.server.live.change import Token
from collegium.server.live.hub import Hub
from collegium.server.sockets.viewer import Viewer
from collegium.testing.conformance.drafts import noted, running, submitted
from collegium.testing.harness import team
from collegium.testing.scripted import SCRIPTED_PROFILE
from tests.unit.stores.moved import working

SOON_S = 20.0
RUN = "run_a"


class Client:
    """Somebody at the other end of a socket, who takes messages only while ``takes`` is set."""

    def __init__(self, live: LiveAccess) -> None:
        self.viewer = Viewer(live)
        self.takes = asyncio.Event()
        self.takes.set()
        self.messages: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.telling = asyncio.create_task(self.viewer.tell(self._send))

    async def _send(self, text: str) -> None:
        await self.takes.wait()
        self.messages.append(json.loads(text))
        self.came.set()

    @property
    def seen(self) -> list[int]:
        """The numbers of the events that came."""
        return [event["seq"] for message in self.messages for event in message.get("items", ())]

    async def until(self, seq: int) -> None:
        """Returns once event ``seq`` has come."""
        async with asyncio.timeout(SOON_S):
            while seq not in self.seen:
                self.came.clear()
                await self.came.wait()

    async def heard(self, type_: str) -> dict[str, Any]:
        """The first message of that type, once it has come."""
        async with asyncio.timeout(SOON_S):
            while True:
                for message in self.messages:
                    if message["type"] == type_:
                        return message
                self.came.clear()
                await self.came.wait()

    async def end(self) -> None:
        """Goes."""
        self.telling.cancel()
        await asyncio.gather(self.telling, return_exceptions=True)
        self.viewer.close()


async def append(app: Collegium, *notes: int) -> None:
    """More events of the run, each an append of its own."""
    for note in notes:
        await app.stores.journal.append(RUN, [noted(note)]).durable()
        app.scheduler.hints.moved(RUN)


async def test_who_is_slow_resyncs_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KEPT", 4)
    async with team(working()) as app:
        await app.stores.journal.append(RUN, [submitted()], expected=0, head=running()).durable()
        hub, topic = Hub(app), f"runs.{RUN}.events"
        live = LiveAccess(hub, local(submitted().tenant))
        slow, quick = Client(live), Client(live)
        for client in (slow, quick):
            await client.viewer.subscribe(topic, 0)
            await client.until(1)
        slow.takes.clear()
        for n in range(2, 40):
            await append(app, n)
            await quick.until(n)
        slow.takes.set()
        resync = await slow.heard("resync")
        assert resync["after"] < 39
        assert slow.seen == list(range(1, resync["after"] + 1))
        assert len(slow.viewer) == 0
        await slow.viewer.subscribe(topic, resync["after"])
        await slow.until(39)
        assert slow.seen == quick.seen == list(range(1, 40))
        await asyncio.gather(slow.end(), quick.end())
        assert hub.watched == 0


async def test_a_burst_is_told_in_few_messages() -> None:
    async with team(working()) as app:
        await app.stores.journal.append(RUN, [submitted()], expected=0, head=running()).durable()
        client = Client(LiveAccess(Hub(app), local(submitted().tenant)))
        await client.viewer.subscribe(f"runs.{RUN}.events", 0)
        await client.until(1)
        await append(app, *range(2, 302))
        await client.until(301)
        assert client.seen == list(range(1, 302))
        assert len(client.messages) < 30
        await client.end()


class Speaking:
    """A model that says ``pieces`` of its reply as it is told to go on, where it is asked to stream."""

    profile: ModelProfile = SCRIPTED_PROFILE

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.go_on = asyncio.Semaphore(0)
        self.streams = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply."""
        return ModelReply(text="".join(self.pieces), tool_calls=(), finish="stop", usage=Usage(), model="scripted:x")

    async def stream(self, request: ModelRequest) -> Any:
        """Piece by piece."""
        self.streams += 1
        for piece in self.pieces:
            await self.go_on.acquire()
            yield Delta(text=piece)
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing is open."""


class Asking:
    """On whose behalf the model is asked."""

    run, tenant, number = RUN, "tenant_a", 1


async def test_what_a_model_says_is_told_piece_by_piece_where_somebody_looks_on() -> None:
    async with team(working()) as app:
        await app.stores.journal.append(RUN, [submitted()], expected=0, head=running()).durable()
        deltas = app.worker.deltas
        model, asking = Speaking("Once ", "upon ", "a time"), Asking()
        asking.tenant = submitted().tenant
        request = ModelRequest(messages=(ChatMessage(role="user", text="Tell me."),))
        assert deltas.through(model, asking, "t") is model
        deltas.start(Wishes(app.stores.bus, clock=SystemClock()))
        through = deltas.through(model, asking, "t")
        assert (await through.complete(request)).text == "Once upon a time"
        assert model.streams == 0
        live = LiveAccess(Hub(app), local(asking.tenant))
        async with aclosing(live.changes(f"runs.{RUN}.deltas")) as changes, asyncio.timeout(SOON_S):
            first = asyncio.ensure_future(anext(changes))
            while not deltas.is_wanted(RUN):  # noqa: ASYNC110 - the bus is waited for
                await asyncio.sleep(0.01)
            reply = asyncio.ensure_future(through.complete(request))
            text = ""
            for piece in model.pieces[:-1]:
                model.go_on.release()
                change = await first
                token = change.value
                assert isinstance(token, Token)
                assert (token.task, token.attempt, token.call, token.at) == ("t", 1, 2, len(text))
                text += token.text
                assert text.endswith(piece)
                first = asyncio.ensure_future(anext(changes))
            model.go_on.release()  # the last piece need not be told any more: the durable event has all of it
            assert (await reply).text == "Once upon a time"
            assert model.streams == 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
