"""Hostile text in every field that the API takes: it comes back as data, never as a page, and no header takes it on."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from collegium.server.app import Application
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import working

_MARK = "xss7d1"
_TAGS = (
    "<script>{m}</script>",
    "<img src=x onerror={m}>",
    "<svg onload={m}>",
    "<svg/onload={m}//",
    "<body onload={m}>",
    "<iframe src=javascript:{m}>",
    "<a href=javascript:{m}>x</a>",
    "<input autofocus onfocus={m}>",
    "<b>{m}</b>",
    "<details open ontoggle={m}>",
    "<video><source onerror={m}>",
    "<audio src=x onerror={m}>",
    "<math><mi {m}></mi>",
    "<marquee onstart={m}>",
    "<object data=javascript:{m}>",
    "<embed src=javascript:{m}>",
    "<link rel=import href={m}>",
    "<meta http-equiv=refresh content=0;url=javascript:{m}>",
    "<base href=//evil.example/{m}>",
    "<style>@import '{m}'</style>",
    "<form action=javascript:{m}><button>x</form>",
    "<template><script>{m}</script></template>",
    "<noscript><p title='{m}'>",
    "<xmp><script>{m}</script></xmp>",
    "<!--{m}--><script>1</script>",
    "<![CDATA[<script>{m}</script>]]>",
    "<?xml {m}?>",
    "</script><script>{m}</script>",
    "</title><script>{m}</script>",
    "</textarea><script>{m}</script>",
    "'\"><script>{m}</script>",
    '"onmouseover="{m}',
    "'onmouseover='{m}",
    "`onmouseover=`{m}",
    "javascript:{m}//",
    "data:text/html,<script>{m}</script>",
    "vbscript:{m}",
    "{{{{{m}}}}}",
    "${{{m}}}",
    "#{{{m}}}",
    "<%= {m} %>",
    "[x](javascript:{m})",
    '![x](x"onerror={m})',
    "\u202e<script>{m}</script>",
    "\uff1cscript\uff1e{m}",
    "<scr\u200bipt>{m}",
    "%3Cscript%3E{m}%3C/script%3E",
    "&lt;script&gt;{m}",
    "x\r\nSet-Cookie: {m}=1",
    "x\r\n\r\n<script>{m}</script>",
)
PAYLOADS = tuple(one.format(m=_MARK) for one in _TAGS)
INERT = ("application/json", "application/problem+json", "application/x-ndjson", "text/event-stream", "text/plain")
_SKIPPED = re.compile(r"/(events|stream|live|ws)$")


def check(reply: httpx.Response) -> None:
    """What comes back can do nothing in a browser, whatever it says."""
    where = f"{reply.request.method} {reply.request.url} -> {reply.status_code}"
    assert reply.status_code < 500 or reply.status_code == 503, f"{where} {reply.text[:500]}"
    headers = reply.headers
    assert headers["x-content-type-options"] == "nosniff", where
    assert "set-cookie" not in headers or _MARK not in headers["set-cookie"], where
    assert not any("\r" in value or "\n" in value for value in headers.values()), where
    kind = headers.get("content-type", "").partition(";")[0]
    if kind in ("", *INERT):
        assert "default-src 'none'" in headers["content-security-policy"], where
        assert "sandbox" in headers["content-security-policy"], where
    else:
        assert _MARK not in reply.text, f"{where} as {kind}"
        assert "frame-ancestors 'none'" in headers["content-security-policy"], where


class Caller:
    """Calls every operation of the API's document with a text in all of its fields."""

    def __init__(self, served: Served, document: dict[str, Any]) -> None:
        self._http = served.http
        self._document = document
        self.fields = 0
        self.calls = 0
        self.echoes = 0

    async def call_all(self, text: str) -> None:
        """One call of each operation, and of each that reads behind them."""
        for path, operations in self._document["paths"].items():
            for method, operation in operations.items():
                if _SKIPPED.search(path) or method not in ("get", "post", "put", "patch", "delete"):
                    continue
                await self._call(path, method, operation, text)

    async def _call(self, path: str, method: str, operation: dict[str, Any], text: str) -> None:
        query, filled = {}, path
        for parameter in operation.get("parameters", ()):
            parameter = self._resolved(parameter)
            schema = self._resolved(parameter.get("schema", {}))
            value = self._sample(schema, text)
            if parameter["in"] == "path":
                filled = filled.replace(f"{{{parameter['name']}}}", quote(text, safe=""))
            elif parameter["in"] == "query" and isinstance(value, str):
                query[parameter["name"]] = value
                self.fields += 1
        filled = re.sub(r"{[^}]*}", quote(text, safe=""), filled)
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        body = None if content is None else self._sample(content["schema"], text)
        for one in self._queries(method, path, query):
            reply = await self._http.request(method, filled, params=one, json=body)
            check(reply)
            self.calls += 1
            self.echoes += _MARK in reply.text

    @staticmethod
    def _queries(method: str, path: str, query: dict[str, str]) -> list[dict[str, str]]:
        """The text in the query, and, where it is elsewhere too, none there: it may make the request impossible."""
        is_elsewhere = method != "get" or "{" in path
        return [one for one in ({}, query) if one or is_elsewhere] if query else [{}] * is_elsewhere

    async def read_all(self) -> None:
        """Reads everything that is asked for without a word: what all calls have left."""
        for path, operations in self._document["paths"].items():
            if "get" in operations and "{" not in path and not _SKIPPED.search(path):
                reply = await self._http.get(path)
                check(reply)
                self.echoes += _MARK in reply.text

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            found: Any = self._document
            for name in schema["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            schema = found
        return schema

    def _sample(self, schema: dict[str, Any], text: str, depth: int = 0) -> Any:
        schema = self._resolved(schema)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self._sample(schema[choice][0], text, depth + 1)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            if depth > 6:
                return {}
            return {name: self._sample(one, text, depth + 1) for name, one in schema.get("properties", {}).items()}
        if kind == "array":
            return [self._sample(schema.get("items", {}), text, depth + 1)]
        if kind == "string":
            self.fields += 1
            if schema.get("format") == "date-time":
                return "2026-11-22T12:00:00Z"
            return text[: schema.get("maxLength", len(text))]
        return {"integer": max(1, schema.get("minimum", 1)), "number": 1.5, "boolean": False}.get(str(kind))


async def test_fifty_payloads_in_every_field_come_back_inert(serve: Serve) -> None:
    assert len(set(PAYLOADS)) == 50
    async with team(working()) as app:
        served = await serve(app)
        document = (await served.http.get("/openapi.json")).json()
        caller = Caller(served, document)
        for payload in PAYLOADS:
            await served.http.post("/v1/runs", json={"goal": payload})
            await caller.call_all(payload)
        await caller.read_all()
        for path in ("/v1/runs", "/v1/audit", "/openapi.json", "/healthz", "/metrics", f"/v1/nothing/{_MARK}"):
            check(await served.http.get(path))
        assert caller.echoes > 100, "the payloads came back: that they are inert was looked at"
        assert caller.fields > 50 * 5
        assert caller.calls > 50 * 10
        page = (await served.http.get("/v1/runs?limit=200")).json()
        goals = {one["goal"] for one in page["items"]}
        assert "<svg onload=xss7d1>" in goals, "and nothing was changed in them"


@pytest.mark.parametrize(("scheme", "has_hsts"), [("http", False), ("https", True)])
async def test_pages_may_not_be_framed_and_tls_is_asked_for_where_there_is_tls(scheme: str, *, has_hsts: bool) -> None:
    async def page(request: Request) -> Response:
        return HTMLResponse("<p>ours</p>", headers={"referrer-policy": "same-origin"})

    app = Application([Route("/", page)], {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{scheme}://here") as http:
        headers = (await http.get("/")).headers
    assert headers["content-security-policy"].startswith("frame-ancestors 'none'")
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin", "what an answer has already stays"
    assert ("strict-transport-security" in headers) is has_hsts


async def test_a_path_that_breaks_lines_makes_no_header(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        for path in (
            "/v1/runs/x%0d%0aSet-Cookie:%20a=b",
            "/%0d%0aX-Injected:%201",
            "/v1/runs?after=%0d%0aX-Injected:%201",
        ):
            reply = await served.http.get(path, headers={"traceparent": "00-<script>-1-01", "accept": "text/html"})
            check(reply)
            assert "x-injected" not in reply.headers
            assert json.loads(reply.text)["trace_id"].isalnum()
