"""What takes too long to answer: 504, and it goes on; what streams, lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

from collegium.app import Collegium
from collegium.server.access.models import KnownModel
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_exports import export_of
from tests.unit.stores.moved import PLAN, working

SHORT_S = 0.5
MODEL = KnownModel(name="scripted:given", title="", is_default=True, is_at_hand=True, agents=())


async def test_a_read_that_is_not_answered_in_time_is_told_so(serve: Serve):
    gate = asyncio.Event()

    async def slow(app: Collegium) -> list[KnownModel]:
        await gate.wait()
        return [MODEL]

    async with team(working()) as app:
        http = (await serve(app, models_of=slow, request_timeout_s=SHORT_S)).http
        reply = await http.get("/v1/models")
        assert (reply.status_code, reply.json()["code"]) == (504, "timed_out")
        assert reply.headers["x-content-type-options"] == "nosniff"
        gate.set()
        assert (await http.get("/v1/models")).status_code == 200


async def test_a_change_that_is_not_answered_in_time_is_made_nevertheless(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app, request_timeout_s=SHORT_S)).http
        gate, blobs = asyncio.Event(), app.stores.blobs
        flush = blobs.flush

        async def slow() -> None:
            await gate.wait()
            await flush()

        vars(blobs)["flush"] = slow
        headers = {"idempotency-key": "one", "content-type": "application/octet-stream"}

        async def hand_over() -> httpx.Response:
            return await http.post("/v1/uploads?name=a.txt", content=b"abc", headers=headers)

        reply = await hand_over()
        assert (reply.status_code, reply.json()["code"]) == (504, "timed_out")
        assert (await hand_over()).json()["code"] == "in_progress", "the first one goes on"
        gate.set()
        async with asyncio.timeout(10):
            while (made := await hand_over()).status_code == 409:  # noqa: ASYNC110 nothing here is told
                await asyncio.sleep(0)
        assert made.status_code == 201
        listed = (await http.get("/v1/uploads")).json()["items"]
        assert [one["id"] for one in listed] == [made.json()["id"]], "made once"


async def test_what_has_begun_to_be_answered_lasts(serve: Serve):
    gate = asyncio.Event()
    usual = export_of()

    async def lines(app: Collegium, run: str, tenant: str) -> AsyncIterator[bytes]:
        async for line in usual(app, run, tenant):
            yield line
            await gate.wait()

    async with team(working()) as app:
        http = (await serve(app, export_of=lines, request_timeout_s=SHORT_S)).http
        run = await app.submit("Do both.", plan=PLAN)
        await run.result()
        async with http.stream("GET", f"/v1/runs/{run.id}/export") as reply:
            assert reply.status_code == 200
            pieces = reply.aiter_lines()
            assert "collegium-export" in await anext(pieces)
            asyncio.get_running_loop().call_later(1.2 * SHORT_S, gate.set)
            rest = [line async for line in pieces]
        assert '"kind":"end"' in rest[-1]


async def test_the_cap_of_uploads_is_that_of_the_settings(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app, upload_bytes=1_000)).http
        kind = {"content-type": "application/octet-stream"}
        assert (await http.post("/v1/uploads?name=a", content=b"x" * 1_000, headers=kind)).status_code == 201
        reply = await http.post("/v1/uploads?name=a", content=b"x" * 1_001, headers=kind)
        assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
        assert "at most 1,000" in reply.json()["detail"]
        reply = await http.post("/v1/uploads", files={"file": ("a", b"x" * 200_000)})
        assert reply.status_code == 413
