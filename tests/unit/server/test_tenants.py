"""Two tenants and every endpoint: whatever one of them has is not there for the other.

Nor is it for somebody of the same tenant who is limited to another project: both are strangers here.

The paths are those of the OpenAPI document, so that an endpoint that is added is tried without being named here. Every
path parameter is filled with every id that the other tenant has.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.plan import Plan, Task
from collegium.server.access.access import Access
from collegium.server.auth.doorkeeper import Doorkeeper
from collegium.server.live.hub import Hub
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door
from tests.unit.server.test_exports import export_of
from tests.unit.stores.moved import working

MARK = "heliotrope"
"""Stands in everything that the first tenant has, and nowhere else."""
ALPHA = "alpha"
NAMES = re.compile(r"{(\w+)}")
METHODS = ("get", "post", "put", "patch", "delete")
SHARED = frozenset({"agent", "tool", "model", "kind", "name", "topic", "worker"})
"""Parameters that are no ids: names of what the installation has, or that everybody gives for themselves."""


class Estate(NamedTuple):
    """What the first tenant has, its key and that of a stranger."""

    ids: dict[str, str]
    mine: str
    theirs: str
    http: httpx.AsyncClient
    document: dict[str, Any]
    door: Doorkeeper


STRANGERS: dict[str, dict[str, Any]] = {
    "of another tenant": {"tenant": "other"},
    "of another project": {"tenant": "acme", "projects": ["beta"]},
}
strangers = pytest.mark.parametrize("stranger", STRANGERS)


@asynccontextmanager
async def estate(serve: Serve, folder: Path, stranger: str = "of another tenant") -> AsyncIterator[Estate]:
    (folder / f"{MARK}.md").write_text(f"# {MARK}\n\nThe owner of {MARK} is Ann.\n")
    plan = Plan(tasks=(Task(id="one", title=MARK, capability="operate", instructions="Do it."),))
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        ids: dict[str, str] = {}
        run = await app.submit(
            f"Do {MARK}.", files=[str(folder)], plan=plan, tenant="acme", principal="user:ada", project=ALPHA
        )
        await run.result()
        ids["run"] = run.id
        waiting = await app.submit(f"Ask {MARK}.", plan=plan, is_plan_reviewed=True, tenant="acme", project=ALPHA)
        await waiting.result()
        ids["waiting"] = waiting.id
        (question,) = await app.approvals(tenant="acme")
        ids["approval"] = question.approval.id
        schedule = await app.schedules.add("@daily", f"Do {MARK}.", name=MARK, tenant="acme", project=ALPHA)
        ids["schedule"] = schedule.id
        mine = await keeper.keys.create(tenant="acme", roles=["admin"], scopes=[], name=MARK, created_by=f"user:{MARK}")
        ids["key"] = mine.key.id
        theirs = await keeper.keys.create(**STRANGERS[stranger], roles=["admin"], created_by="test")
        access = Access(app, await keeper.keys.identify(mine.text), keys=keeper.keys, hub=Hub(app))
        hook = await access.webhooks.create(f"https://{MARK}.example/hook", ["run.finished"])
        ids["hook"] = hook.webhook.id
        served = await serve(app, authenticator=keeper, export_of=export_of())
        document = (await served.http.get("/openapi.json")).json()
        if "/v1/uploads" in document["paths"]:
            mine_too = {**bearer(mine.text), "content-type": "application/octet-stream"}
            made = await served.http.post(f"/v1/uploads?name={MARK}.txt", content=MARK.encode(), headers=mine_too)
            ids["upload"] = made.json()["id"]
        yield Estate(ids, mine.text, theirs.text, served.http, document, keeper)


def endpoints(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                yield method, path, operations[method]


def smallest(document: dict[str, Any], schema: dict[str, Any], name: str = "") -> Any:
    """The smallest value that fits ``schema``, as far as bodies here go."""
    if "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return smallest(document, found, name)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return smallest(document, schema[key][0], name)
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            return {n: smallest(document, known[n], n) for n in schema.get("required", ()) if n in known}
        case "array":
            return [smallest(document, schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
        case _:
            return "https://example.com/" if "url" in name else "a" * max(1, schema.get("minLength", 1))


def body(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a request that fits the operation: its body, and the parameters that it cannot do without."""
    needed = [p for p in operation.get("parameters", ()) if p["in"] == "query" and p.get("required")]
    found: dict[str, Any] = {"params": {p["name"]: _needed(document, p["schema"]) for p in needed}} if needed else {}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        return {**found, "json": smallest(document, content["application/json"]["schema"])}
    for kind in content:
        if kind.startswith("multipart/"):
            return {**found, "files": {"file": ("a.txt", b"a")}}
        return {**found, "content": b"a", "headers": {"content-type": kind}}
    return found


def _needed(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """What is asked for, where something has to be."""
    return MARK if schema.get("type") == "string" and "enum" not in schema else smallest(document, schema)


async def ask(found: Estate, key: str, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {**bearer(key), **more.pop("headers", {})}
    async with found.http.stream(method.upper(), path, headers=headers, **more) as reply:
        if reply.status_code < 300 and "text/event-stream" in reply.headers.get("content-type", ""):
            return reply  # it never ends
        await reply.aread()
        return reply


@strangers
async def test_no_id_of_another_tenant_leads_anywhere(serve: Serve, tmp_path: Path, stranger: str):
    async with estate(serve, tmp_path, stranger) as found:
        tried: list[str] = []
        for method, path, operation in endpoints(found.document):
            names = NAMES.findall(path)
            if not names:
                continue
            for values in itertools.product(found.ids.values(), repeat=len(names)):
                filled = path
                for name, value in zip(names, values, strict=True):
                    filled = filled.replace(f"{{{name}}}", value)
                reply = await ask(found, found.theirs, method, filled, **body(found.document, operation))
                told = f"{method} {filled}: {reply.status_code} {reply.text[:300]}"
                assert reply.status_code < 500 if set(names) & SHARED else reply.status_code == 404, told
                assert MARK not in reply.text.replace(filled, ""), told
                tried.append(f"{method} {path}")
        assert len(set(tried)) >= 10
        await unharmed(found)


async def unharmed(found: Estate) -> None:
    """All that the first tenant had is there for it, as it was."""
    assert (await ask(found, found.mine, "get", f"/v1/runs/{found.ids['run']}")).json()["status"] == "succeeded"
    assert (await ask(found, found.mine, "get", f"/v1/runs/{found.ids['waiting']}")).json()["status"] == "waiting"
    assert (await ask(found, found.mine, "get", f"/v1/keys/{found.ids['key']}")).json()["status"] == "holds"
    if "upload" in found.ids:
        assert (await ask(found, found.mine, "get", f"/v1/uploads/{found.ids['upload']}")).status_code == 200
    hook = await ask(found, found.mine, "get", f"/v1/webhooks/{found.ids['hook']}")
    assert (hook.status_code, MARK in hook.text) == (200, True)


async def test_every_id_leads_somewhere_for_its_own_tenant(serve: Serve, tmp_path: Path):
    """Without this the test above would hold for ids that nobody finds anything by."""
    async with estate(serve, tmp_path) as found:
        for method, path, operation in endpoints(found.document):
            names = NAMES.findall(path)
            if method != "get" or len(names) != 1 or set(names) & SHARED:
                continue
            given = body(found.document, operation)
            replies = [
                (await ask(found, found.mine, method, path.replace(f"{{{names[0]}}}", value), **given)).status_code
                for value in found.ids.values()
            ]
            assert any(status < 300 for status in replies), f"give the first tenant something for {path}: {operation}"


@strangers
async def test_no_list_shows_what_another_tenant_has(serve: Serve, tmp_path: Path, stranger: str):
    async with estate(serve, tmp_path, stranger) as found:
        shown = 0
        for method, path, operation in endpoints(found.document):
            if NAMES.findall(path) or path.startswith("/auth") or method != "get":
                continue
            reply = await ask(found, found.theirs, method, path)
            assert reply.status_code < 500, path
            told = [reply.text] if "text/event-stream" not in reply.headers.get("content-type", "") else []
            for text in told:
                assert MARK not in text, path
                assert not [id_ for id_ in found.ids.values() if id_ in text], path
            own = await ask(found, found.mine, method, path)
            shown += bool(operation) and MARK in own.text
        assert shown >= 3, "the first tenant sees its own in these lists"


@strangers
async def test_no_id_in_a_body_leads_anywhere(serve: Serve, tmp_path: Path, stranger: str):
    """Every text of every body, and every parameter of a query, is filled with every id of the other tenant."""
    async with estate(serve, tmp_path, stranger) as found:
        for method, path, operation in endpoints(found.document):
            if NAMES.findall(path) or path.startswith("/auth"):
                continue
            given = body(found.document, operation)
            for (name, is_list), id_ in itertools.product(_texts(found.document, operation), found.ids.values()):
                changed = {**given, "json": {**given["json"], name: [id_] if is_list else id_}}
                reply = await ask(found, found.theirs, method, path, **changed)
                assert reply.status_code < 500, f"{method} {path} {name}: {reply.text[:300]}"
                assert MARK not in reply.text, f"{method} {path} {name}={id_}"
            queries = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query" and method == "get"]
            for name, id_ in itertools.product(queries, found.ids.values()):
                reply = await ask(found, found.theirs, method, path, params={name: id_})
                assert reply.status_code < 500
                assert MARK not in getattr(reply, "text", "") or reply.is_stream_consumed is False
        reply = await ask(
            found, found.theirs, "post", "/v1/runs", json={"goal": "Go on.", "continues": found.ids["run"]}
        )
        assert reply.status_code == 404, "nobody asks on from a run of another tenant, nor gets its files"
        await unharmed(found)


def _texts(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The properties of a body that take a text, and whether they take a list of them."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, one in schema.get("properties", {}).items():
        for kind in (one, *one.get("anyOf", ())):
            if kind.get("type") == "string" and "enum" not in kind and "const" not in kind:
                yield name, False
            elif kind.get("type") == "array" and kind.get("items", {}).get("type") == "string":
                yield name, True


@pytest.mark.parametrize("role", ["viewer", "operator", "approver"])
async def test_without_the_scope_nothing_is_changed(serve: Serve, tmp_path: Path, role: str):
    """Every endpoint answers whoever has not the scope with 403, and says which; none answers with a fault."""
    async with estate(serve, tmp_path) as found:
        issued = await found.door.keys.create(tenant="acme", roles=[role], created_by="test")
        refused = set()
        for method, path, operation in endpoints(found.document):
            if path.startswith("/auth") or set(NAMES.findall(path)) & SHARED:
                continue
            filled = NAMES.sub(lambda m: found.ids.get(m[1], found.ids["run"]), path)
            reply = await ask(found, issued.text, method, filled, **body(found.document, operation))
            assert reply.status_code < 500, f"{method} {filled}: {reply.text[:300]}"
            if reply.status_code == 403:
                refused.add(f"{method} {path}")
                assert "insufficient_scope" in reply.headers["www-authenticate"]
        for administration in ("post /v1/keys", "delete /v1/keys/{key}", "get /v1/keys", "post /v1/keys/{key}/rotate"):
            assert administration in refused
        assert ("post /v1/runs" in refused) == (role != "operator")
        assert (await ask(found, found.mine, "get", f"/v1/keys/{found.ids['key']}")).json()["status"] == "holds"


async def test_nobody_without_a_credential_gets_further_than_health(serve: Serve, tmp_path: Path):
    async with estate(serve, tmp_path) as found:
        for method, path, operation in endpoints(found.document):
            if path in ("/auth/login", "/auth/callback", "/auth/logout") or (method, path) == ("post", "/auth/session"):
                continue
            filled = NAMES.sub(lambda m: found.ids.get(m[1], found.ids["run"]), path)
            reply = await found.http.request(method.upper(), filled, **body(found.document, operation))
            assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated"), f"{method} {filled}"
            assert reply.headers["www-authenticate"].startswith("Bearer")
            assert MARK not in reply.text
