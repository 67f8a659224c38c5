"""Files that are handed over, and goals that name them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from collegium.app import Collegium
from collegium.domain.principal import local
from collegium.runtime.uploads import LIVES, check_name
from collegium.server.access.uploads import UploadAccess
from collegium.server.rest.uploads import MAX_BYTES
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


async def test_a_goal_is_given_what_was_handed_over(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        made = await http.post("/v1/uploads?name=notes/june.txt", content=b"Backups are kept for 35 days.")
        assert made.status_code == 201, made.text
        upload = made.json()
        assert (upload["name"], upload["size_bytes"]) == ("notes/june.txt", 29)
        form = await http.post("/v1/uploads", files={"file": ("july.txt", b"Nothing is kept.", "text/plain")})
        assert form.json()["name"] == "july.txt", form.text
        listed = (await http.get("/v1/uploads")).json()
        assert [one["id"] for one in listed["items"]] == [upload["id"], form.json()["id"]]
        goal = {"goal": "How long?", "files": [upload["id"], form.json()["id"]]}
        run = (await http.post("/v1/runs", json=goal)).json()["run_id"]
        state = await app.state(run)
        assert [f.path for f in state.goal.files] == ["notes/june.txt", "july.txt"]
        await app.cancel(run)
        assert (await http.delete(f"/v1/uploads/{upload['id']}")).status_code == 204
        assert (await http.get(f"/v1/uploads/{upload['id']}")).status_code == 404
        refused = await http.post("/v1/runs", json=goal)
        assert (refused.status_code, refused.json()["code"]) == (400, "unreadable_input")
        assert upload["id"] in refused.json()["detail"]


async def test_a_file_that_is_too_large_is_refused_before_all_of_it_is_taken(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        http = served.http
        where = urlsplit(served.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head = f"POST /v1/uploads?name=a HTTP/1.1\r\nHost: {where.netloc}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        answered, sent = asyncio.ensure_future(reader.readline()), 0
        while not answered.done() and sent < 4 * MAX_BYTES:
            writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
            sent += 0x100000
            await asyncio.sleep(0)
            with suppress(ConnectionError):
                await writer.drain()
        # Whoever goes on sending may be cut off before it has read why.
        with suppress(ConnectionError):
            assert (await answered).startswith(b"HTTP/1.1 413")
        assert sent < 2 * MAX_BYTES
        writer.close()
        form = await http.post("/v1/uploads", files={"file": ("a", b"x" * (MAX_BYTES + 1_000_000))})
        assert (form.status_code, form.json()["code"]) == (413, "too_large")
        broken = {"content-type": "multipart/form-data; boundary=x"}
        reply = await http.post("/v1/uploads", content=b"--y\r\nnothing", headers=broken)
        assert reply.status_code == 400, reply.text


async def test_other_routes_take_no_large_body(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        reply = await http.post("/v1/runs", content=b'{"goal": "' + b"x" * 8_000_000 + b'"}')
        assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


async def test_an_upload_lives_for_a_day():
    clock = FakeClock()
    async with team(working(), clock=clock, scope="none") as app:
        access = UploadAccess(app, local("default"))
        made = await access.add("a.txt", b"a")
        await clock.advance(LIVES.total_seconds() - 1)
        assert (await access.show(made.id)) == made
        await clock.advance(1)
        assert (await access.page()).items == ()
        await access.add("b.txt", b"b")
        assert await _kept(app) == 1


async def _kept(app: Collegium) -> int:
    return len(await app.stores.records.find("upload", "default"))


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a\0b", "", "  ", "x" * 600, "a/../b", "C:\\..\\a", "a\nb"])
async def test_names_that_lead_elsewhere_are_refused(serve: Serve, name: str):
    async with team(working()) as app:
        reply = await (await serve(app)).http.post("/v1/uploads", params={"name": name}, content=b"x")
        assert reply.status_code in (400, 422), reply.text


def test_a_name_is_a_relative_path():
    assert check_name(" reports\\june.txt ") == "reports/june.txt"


async def test_two_files_of_one_name_are_not_taken(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        ids = [(await http.post("/v1/uploads?name=a", content=b"%d" % n)).json()["id"] for n in range(2)]
        reply = await http.post("/v1/runs", json={"goal": "Read.", "files": ids})
        assert (reply.status_code, reply.json()["code"]) == (400, "usage")


async def test_uploads_are_paged(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        made = await asyncio.gather(*(http.post(f"/v1/uploads?name=f{n}", content=b"x") for n in range(7)))
        wanted = sorted(reply.json()["id"] for reply in made)
        seen: list[str] = []
        after = None
        while True:
            query = {"limit": 3} | ({} if after is None else {"after": after})
            page = (await http.get("/v1/uploads", params=query)).json()
            seen += [one["id"] for one in page["items"]]
            after = page["next"]
            if after is None:
                break
        assert seen == wanted
