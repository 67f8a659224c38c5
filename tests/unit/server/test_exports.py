"""Exports and checks of runs over HTTP: the file is the one the host writes; what was changed is found."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.rows import EventRow
from collegium.app import Collegium
from collegium.client import Client
from collegium.domain.errors import NotFound
from collegium.runtime import export as exports
from collegium.server.access.exports import ExportOf
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door
from tests.unit.server.test_remote import call
from tests.unit.stores.moved import PLAN, Hanging, working

KEY = b"a key of this test, 32 bytes....."


def export_of() -> ExportOf:
    return lambda app, run, tenant: exports.export(run, app.stores, tenant=tenant, now=app.now(), key=KEY)


async def done(app: Collegium) -> str:
    run = await app.submit("Do both.", plan=PLAN)
    await run.result()
    return run.id


async def test_a_run_is_exported_as_the_host_does_and_checked(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, export_of=export_of())
        run = await done(app)
        async with Client(served.url) as client:
            lines = b"".join([piece async for piece in client.export(run)]).splitlines(keepends=True)
            checked = await client.check(run)
            with pytest.raises(NotFound, match="there is no run run_none"):
                [piece async for piece in client.export("run_none")]
            with pytest.raises(NotFound):
                await client.check("run_none")
        read = exports.parse(lines)
        assert (read.run, len(read.links(run))) == (run, len([e async for e in app.events(run)]))
        assert (checked.ok, checked.status, checked.changed_at) == (True, "succeeded", None)
        (noted,) = (await served.http.get("/v1/audit?action=runs.exported")).json()["items"]
        assert noted["object"] == run


async def test_a_run_under_way_is_held_against_what_there_is_now(serve: Serve):
    async with team(Hanging()) as app, Client((await serve(app)).url) as client:
        run = await client.submit("Do both.", plan=PLAN)
        assert (await client.check(run.id)).ok
        what = next(name for name in app.pins.present if name.startswith("agent:"))
        app.pins.present[what] = "another"
        (difference,) = (await client.check(run.id)).differences
        assert (difference.what, difference.present, difference.outcome) == (what, "another", "kept")
        await run.cancel("enough")


async def test_without_the_right_to_read_documents_there_is_no_export(serve: Serve):
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        reads = await keeper.keys.create(tenant="default", roles=[], scopes=["runs:read"], created_by="test")
        served = await serve(app, authenticator=keeper, export_of=export_of())
        run = await done(app)
        reply = await served.http.get(f"/v1/runs/{run}/export", headers=bearer(reads.text))
        assert (reply.status_code, reply.json()["code"]) == (403, "not_allowed")
        assert (await served.http.get(f"/v1/runs/{run}/check", headers=bearer(reads.text))).status_code == 200


async def test_over_the_command_line(serve: Serve, tmp_path: Path):
    async with team(working()) as app:
        url = (await serve(app, export_of=export_of())).url
        run = await done(app)
        code, written, said = await call(url, "runs", "export", "last", "--out", "x.jsonl", cwd=tmp_path)
        assert (code, written["run_id"]) == (0, run), said
        with (tmp_path / "x.jsonl").open("rb") as file:
            assert exports.parse(file).run == run
        code, found, said = await call(url, "runs", "check", cwd=tmp_path)
        assert (code, found["ok"], found["verified"], found["damaged"]) == (0, True, 1, []), said


async def test_a_run_whose_journal_was_changed_is_told(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        run = await done(app)
        rows: list[EventRow] = vars(app.stores.journal)["_events"][run]
        rows[2] = rows[2]._replace(body=rows[2].body.replace(b"{", b"{ ", 1))
        reply: httpx.Response = await served.http.get(f"/v1/runs/{run}/check")
        assert (reply.status_code, reply.json()["ok"], reply.json()["changed_at"]) == (200, False, 3)
