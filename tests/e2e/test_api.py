"""The API as processes: killed in the middle of a submit, and without its store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collegium.testing.servers import MissingServer, Server, postgres_server
from tests.e2e.serving import WAIT_S, Place
from tests.e2e.submits import tried


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder to serve from."""
    made = Place(tmp_path, {"reply": "Said."})
    yield made
    made.close()


async def test_a_submit_that_a_kill_cut_off_gives_one_run_when_it_is_sent_again(place: Place) -> None:
    tally = await tried(place, 25, seed=7)
    assert tally.is_right, tally
    assert tally.killed >= 25


async def test_without_its_store_the_api_says_when_to_come_again(place: Place) -> None:
    pytest.importorskip("psycopg")
    try:
        with postgres_server() as server:
            await _away_and_back(place, server)
    except MissingServer as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


async def _away_and_back(place: Place, server: Server) -> None:
    serve = place.serve("--workers", "0", COLLEGIUM_STORE=server.url, COLLEGIUM_POSTGRES__PATIENCE_S="1")
    serve.until_ready()
    key = {"idempotency-key": "away"}
    async with httpx.AsyncClient(base_url=serve.url, timeout=WAIT_S, trust_env=False) as http:
        run = (await http.post("/v1/runs", json={"goal": "Say it."})).json()["run_id"]
        assert (await http.get(f"/v1/runs/{run}")).status_code == 200
        server.stop()
        for method, path, body in (
            ("GET", f"/v1/runs/{run}", None),
            ("GET", "/v1/runs", None),
            ("GET", f"/v1/runs/{run}/events", None),
            ("GET", "/v1/uploads", None),
            ("POST", f"/v1/runs/{run}/cancel", {}),
            ("POST", "/v1/runs", {"goal": "Say more."}),
        ):
            reply = await http.request(method, path, json=body, headers=key)
            assert reply.status_code == 503, f"{method} {path}: {reply.status_code} {reply.text}"
            assert reply.headers["content-type"] == "application/problem+json"
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["code"] == "store_unavailable"
            assert "collegium:collegium" not in reply.text, "no password is shown"
        server.start()
        serve.until_ready()
        again = [(await http.post("/v1/runs", json={"goal": "Say more."}, headers=key)).json() for _ in range(2)]
        assert again[0] == again[1]
        assert len((await http.get("/v1/runs")).json()["items"]) == 2
        assert (await http.post(f"/v1/runs/{run}/cancel", headers=key)).status_code == 202
