"""Documents are sent again as long as nothing was stored since, by this process or another one, and no longer."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.requests import HTTPConnection

from collegium.app import DEFAULT_TENANT
from collegium.config import Settings
from collegium.domain.principal import ROLES, Principal, local
from collegium.server.access.runs import RunAccess
from collegium.server.live.ready import FRESH, Ready
from collegium.wiring import open_collegium
from tests.unit.server.conftest import Serve


class Kept:
    """A store that tells its version, and how often what is in it was read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, tzinfo=UTC)
        self.version: int | None = 1
        self.reads = 0
        app: Any = SimpleNamespace(stores=SimpleNamespace(version=lambda: self.version), now=lambda: self.at)
        self.ready = Ready(app)

    async def ask(self, place: str = "a") -> bytes:
        """What is at ``place``, asked in a turn of the loop of its own."""
        await asyncio.sleep(0)

        async def make() -> bytes:
            self.reads += 1
            return f"{place} {self.version}".encode()

        return await self.ready.get(place, make, size=len)


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

    asking = asyncio.create_task(kept.ready.get("a", slowly, size=len))
    await going.wait()
    kept.version = 2
    await kept.ask("b")
    stored.set()
    assert await asking == b"old"
    assert await kept.ask() == b"a 2"


async def test_what_another_process_stores_is_seen_at_once(serve: Serve, tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"ordered": False, "step": [{"reply": "Done.", "times": 100}]}))
    settings, model = Settings(data_dir=tmp_path / "data"), f"scripted:{script}"
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
