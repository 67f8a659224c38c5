"""Documents are sent again as long as nothing was stored since, by this process or another one, and no longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from collegium.app import DEFAULT_TENANT
from collegium.config import Settings
from collegium.domain.principal import ROLES, Principal, local
from collegium.server.access.runs import RunAccess
from collegium.server.live.ready import FRESH, REST, VAIN, Ready
from collegium.wiring import open_collegium
from tests.unit.server.conftest import Serve


class Kept:
    """A store that tells its version, and how often what is in it was read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, tzinfo=UTC)
        self.version: int | None = 1
        self.reads = 0
        self.stores = SimpleNamespace(version=lambda: self.version, moment=None)
        app: Any = SimpleNamespace(stores=self.stores, now=lambda: self.at)
        self.ready = Ready(app)

    async def ask(self, place: str = "a") -> bytes:
        """What is at ``place``, asked in a turn of the loop of its own."""
        await asyncio.sleep(0)

        async def make() -> bytes:
            self.reads += 1
            return f"{place} {self.version}".encode()

        return await self.get(place, make)

    async def get(self, place: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What was kept for ``place``, or is made now."""
        found: bytes | None = await self.ready.kept(place)
        return await self.ready.made(place, make, size=len) if found is None else found


class Far(Kept):
    """The same, a trip away: what it tells is of some time between the question and its answer, as what is read is."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.trips = 0
        self.stores.moment = self.moment

    async def pause(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def moment(self) -> int | None:
        self.trips += 1
        await self.pause()
        found = self.version
        await self.pause()
        return found

    async def read(self) -> bytes:
        self.reads += 1
        await self.pause()
        found = self.version
        await self.pause()
        return f"{found}".encode()


async def test_what_was_made_is_sent_until_something_is_stored():
    kept = Kept()
    assert [await kept.ask(), await kept.ask(), await kept.ask("b")] == [b"a 1", b"a 1", b"b 1"]
    assert kept.reads == 2
    kept.version = 2
    assert [await kept.ask(), await kept.ask("b")] == [b"a 2", b"b 2"]


async def test_it_is_believed_for_a_second_only():
    kept = Kept()
    await kept.ask()
    kept.at += FRESH - timedelta(milliseconds=1)
    await kept.ask()
    assert kept.reads == 1
    kept.at += timedelta(milliseconds=1)
    await kept.ask()
    assert kept.reads == 2


async def test_a_store_that_cannot_tell_is_read_each_time():
    kept = Kept()
    kept.version = None
    await kept.ask()
    await kept.ask()
    assert kept.reads == 2


async def test_what_was_made_before_something_was_stored_is_not_kept_as_made_after_it():
    kept = Kept()
    going, stored = asyncio.Event(), asyncio.Event()

    async def slowly() -> bytes:
        going.set()
        await stored.wait()
        return b"old"

    asking = asyncio.create_task(kept.get("a", slowly))
    await going.wait()
    kept.version = 2
    await kept.ask("b")
    stored.set()
    assert await asking == b"old"
    assert await kept.ask() == b"a 2"


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("seed", range(40))
async def test_nobody_is_shown_what_was_before_he_asked(seed: int, is_far: bool):
    far = Far(Random(seed))
    if not is_far:
        far.stores.moment = None

    async def asks() -> None:
        for _ in range(20):
            await far.pause()
            at_least = far.version
            await asyncio.sleep(0)  # no request comes in the turn of the loop in which somebody was told of a change
            shown = int(await far.get(f"{far.random.randrange(2)}", far.read))
            assert at_least is not None
            assert at_least <= shown

    async def stores() -> None:
        for _ in range(20):
            for _ in range(far.random.randrange(8)):
                await far.pause()
            assert far.version is not None
            far.version += 1

    await asyncio.gather(stores(), *(asks() for _ in range(6)))
    assert far.reads < 120


async def test_one_trip_and_one_read_do_for_all_who_wait():
    far = Far(Random(1))
    assert await asyncio.gather(*(far.get("a", far.read) for _ in range(50))) == [b"1"] * 50
    assert (far.trips, far.reads) == (1, 1)
    late = [asyncio.create_task(far.get("a", far.read))]
    while far.trips == 1:  # noqa: ASYNC110 nobody tells
        await asyncio.sleep(0)
    late += [asyncio.create_task(far.get("a", far.read)) for _ in range(50)]
    assert await asyncio.gather(*late) == [b"1"] * 51
    assert (far.trips, far.reads) == (3, 1)


async def test_whoever_goes_away_leaves_the_read_to_the_others():
    far, begun, end = Far(Random(1)), asyncio.Event(), asyncio.Event()

    async def slowly() -> bytes:
        begun.set()
        await end.wait()
        return b"made"

    first = asyncio.create_task(far.get("a", slowly))
    await begun.wait()
    second = asyncio.create_task(far.get("a", slowly))
    while far.trips < 2:  # noqa: ASYNC110 nobody tells
        await asyncio.sleep(0)
    first.cancel()
    end.set()
    assert await second == b"made"


async def test_where_much_is_stored_nothing_is_asked_for_a_while():
    far = Far(Random(1))
    for number in range(2, 30):
        assert await far.get("a", far.read) == str(number - 1).encode()
        far.version = number
    assert far.trips == VAIN
    far.at += REST
    for _ in range(5):
        await far.get("a", far.read)
    assert (far.trips, far.reads) == (VAIN + 5, 28 + 1)


@pytest.mark.parametrize("place", ["sqlite", "postgres"])
async def test_what_another_process_stores_is_seen_at_once(
    serve: Serve, tmp_path: Path, place: str, request: pytest.FixtureRequest
):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"ordered": False, "step": [{"reply": "Done.", "times": 100}]}))
    store = {"store": request.getfixturevalue("postgres_url")} if place == "postgres" else {}
    settings, model = Settings(data_dir=tmp_path / "data", **store), f"scripted:{script}"
    async with open_collegium(settings, model=model) as reading, open_collegium(settings, model=model) as writing:
        http = (await serve(reading)).http
        for number in range(1, 3):
            handle = await writing.submit(f"Goal {number}")
            assert len((await http.get("/v1/runs")).json()["items"]) == number
            await handle.result()
            assert {one["status"] for one in (await http.get("/v1/runs")).json()["items"]} == {"succeeded"}
            before = (await http.get(f"/v1/runs/{handle.id}")).headers["etag"]
            await RunAccess(writing, local(DEFAULT_TENANT)).feedback(handle.id, is_good=True)
            assert (await http.get(f"/v1/runs/{handle.id}")).headers["etag"] != before
            events = (await http.get(f"/v1/runs/{handle.id}/events")).json()
            assert events["items"][-1]["type"] == "feedback.given"


class Several:
    """Everybody is who the request says: for tests alone."""

    async def identify(self, connection: HTTPConnection) -> Principal:
        tenant, role, project = connection.headers["who"].split("/")
        scopes = ROLES.get(role, frozenset({"usage:read"}))
        projects = frozenset({project}) if project else None
        return Principal(id=f"key:{role}", tenant=tenant, scopes=scopes, projects=projects, kind="key")

    async def still_valid(self, principal: Principal) -> bool:
        return True


async def test_what_is_ready_for_one_is_not_for_another(serve: Serve, tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"ordered": False, "step": [{"reply": "Done.", "times": 100}]}))
    async with open_collegium(Settings(data_dir=tmp_path / "data"), model=f"scripted:{script}") as app:
        http = (await serve(app, authenticator=Several())).http
        handle = await app.submit("A goal")
        await handle.result()
        for path in (f"/v1/runs/{handle.id}", f"/v1/runs/{handle.id}/events"):
            statuses = [
                (await http.get(path, headers={"who": who})).status_code
                for who in ("default/viewer/", "default/none/", "other/viewer/", "default/viewer/p", "default/viewer/")
            ]
            assert statuses == [200, 403, 404, 404, 200]
        pages = [
            (await http.get("/v1/runs", headers={"who": who})).json()["items"]
            for who in ("default/viewer/", "other/viewer/", "default/viewer/p")
        ]
        assert [len(page) for page in pages] == [1, 0, 0]
        tag = (await http.get(f"/v1/runs/{handle.id}", headers={"who": "default/viewer/"})).headers["etag"]
        same = {"who": "default/viewer/", "if-none-match": tag}
        assert (await http.get(f"/v1/runs/{handle.id}", headers=same)).status_code == 304
        for condition, status in (("*", 304), (tag.removeprefix("W/"), 304), (f'"x", {tag}', 304), ('"x"', 200)):
            for ask in (http.get, http.head):
                reply = await ask(f"/v1/runs/{handle.id}", headers={**same, "if-none-match": condition})
                assert (reply.status_code, reply.headers["etag"]) == (status, tag), condition
