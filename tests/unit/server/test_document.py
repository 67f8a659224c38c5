"""What the document of the API says of answers and requests is what is sent and taken."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


def fits(document: dict[str, Any], name: str) -> jsonschema_rs.Draft202012Validator:
    """Judges values by a schema of the document."""
    parts = {"components": document["components"], "$ref": f"#/components/schemas/{name}"}
    return jsonschema_rs.Draft202012Validator(parts)


async def test_events_of_a_run_fit_the_document(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = (await http.post("/v1/runs", json={"goal": "Do both."})).json()["run_id"]
        await app.result(run)
        judge = fits((await http.get("/openapi.json")).json(), "Event")
        events = (await http.get(f"/v1/runs/{run}/events")).json()["items"]
        assert len(events) > 3
        assert [list(judge.iter_errors(one)) for one in events] == [[]] * len(events)


@pytest.mark.parametrize("said", [None, 1.5, "1.50", "0", "1000000", "", "+1", "1e3", "NaN", "1000000.5", -1, "٣"])
async def test_an_amount_is_taken_where_the_document_says_so(serve: Serve, said: object):
    async with team(working()) as app:
        http = (await serve(app)).http
        judge = fits((await http.get("/openapi.json")).json(), "RunLimits")
        reply = await http.post("/v1/runs", json={"goal": "Do it.", "limits": {"cost_usd": said}})
        assert (reply.status_code == 202) == judge.is_valid({"cost_usd": said}), reply.text
