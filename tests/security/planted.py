"""Two hundred secrets of an installation, driven through everything that leaves it: none of them may come out."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import random
import string
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.adapters.memory.records import MemoryRecords
from collegium.app import Collegium
from collegium.config import PostgresSection, Settings, ShardSetting
from collegium.config.secrets import secrets_of
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.deed import LogNoted
from collegium.domain.errors import ModelAuthError, StoreUnavailable, ToolError
from collegium.domain.principal import local
from collegium.domain.redaction import Redactor
from collegium.runtime.admin_log import AdminLog
from collegium.runtime.export import export
from collegium.runtime.keys import Keys
from collegium.server.app import Faces, build
from collegium.server.auth.slips import Slips
from collegium.server.caller import OpenDoor
from collegium.server.metrics import Metrics
from collegium.server.readiness import Readiness
from collegium.telemetry import RedactedFormatter
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import FunctionTool, tool
from tests.unit.stores.moved import PLAN

_LETTERS = string.ascii_letters + string.digits


class Secret(NamedTuple):
    """A planted secret, and the sentence that it stands in."""

    kind: str
    text: str

    @property
    def said(self) -> str:
        """As it may be met in a library's message."""
        return {
            "provider": f"401: the key {self.text} was refused",
            "store": f"could not connect to postgresql://me:{self.text}@db.example/x; password={self.text}",
            "key": f"Authorization: Bearer {self.text}",
            "session": f"GET /v1/runs HTTP/1.1\nCookie: clg_session={self.text}; theme=dark",
            "ticket": f"GET /v1/ws?ticket={self.text} HTTP/1.1",
            "webhook": f'{{"url": "https://example.org/hook", "secret": "{self.text}"}}',
            "pepper": f"the pepper is {self.text}.",
        }[self.kind]


class Found(NamedTuple):
    """By channel: the secrets that came out, and how much there was to look through."""

    planted: int
    leaks: dict[str, list[Secret]]
    sizes: dict[str, int]


class Planted(NamedTuple):
    """The secrets, and what an installation with them knows of them."""

    secrets: list[Secret]
    redactor: Redactor

    def of(self, *kinds: str) -> list[Secret]:
        """Those of these kinds."""
        return [one for one in self.secrets if one.kind in kinds]


async def plant(folder: Path, seed: int = 7) -> Planted:
    """Forty keys of providers, forty passwords, forty API keys, sessions, tickets, secrets of webhooks, a pepper."""
    rng = random.Random(seed)

    def word(size: int) -> str:
        return "".join(rng.choice(_LETTERS) for _ in range(size))

    def entropy(size: int) -> bytes:
        return rng.randbytes(size)

    clock, records = FakeClock(), MemoryRecords()
    pepper = base64.b64encode(entropy(48))
    (folder / "pepper").write_bytes(pepper + b"\n")
    keys = [word(32) for _ in range(39)]  # no known shape: they are known because they are configured
    (folder / "keys.txt").write_text("\n".join(keys[20:]))
    passwords = [word(14) for _ in range(40)]
    urls = [f"postgresql://me:{password}@db.example/x" for password in passwords]
    settings = Settings(
        data_dir=folder,
        store=urls[0],
        redis=f"redis://:{passwords[1]}@cache.example:6379/0",
        postgres=PostgresSection(shards=[ShardSetting(url=url, number=n) for n, url in enumerate(urls[2:], start=1)]),
    )
    environ = {"OPENAI_API_KEY": ",".join(keys[:20]), "ANTHROPIC_API_KEY_FILE": str(folder / "keys.txt")}
    issuer = Keys(records, clock=clock, pepper=pepper, entropy=entropy)
    issued = [
        (await issuer.create(tenant="default", created_by="cli", roles=("admin",), name=f"k{n}")).text
        for n in range(40)
    ]
    slips = {
        kind: [
            (await Slips(records, kind, clock=clock, pepper=pepper, entropy=entropy).make(local("default"), 60)).text
            for _ in range(20)
        ]
        for kind in ("session", "ticket")
    }
    hooks = [f"whsec_{base64.b64encode(entropy(24)).decode()}" for _ in range(40)]
    groups = {
        "provider": keys,
        "store": passwords,
        "key": issued,
        **slips,
        "webhook": hooks,
        "pepper": [pepper.decode()],
    }
    secrets = [Secret(kind, text) for kind, texts in groups.items() for text in texts]
    assert len(secrets) == len({one.text for one in secrets}) == 200
    return Planted(secrets, Redactor(secrets_of(settings, environ)))


async def drive(folder: Path) -> Found:
    """Drives all of them through logs, errors, HTTP answers, the administrative log, events, prompts and exports."""
    planted = await plant(folder)
    channels = {
        "logs": _logged(planted),
        "errors": "\n".join(_errors(planted)),
        "http": await _answered(planted),
        "audit log": await _noted(planted),
    } | await _worked(planted)
    leaks = {name: [one for one in planted.secrets if is_in(one.text, text)] for name, text in channels.items()}
    return Found(len(planted.secrets), leaks, {name: len(text) for name, text in channels.items()})


def is_in(secret: str, text: str) -> bool:
    """Whether a secret stands in a text, plain or in Base64."""
    return secret in text or base64.b64encode(secret.encode()).decode().rstrip("=") in text


def _logged(planted: Planted) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactedFormatter("%(levelname)s %(message)s", planted.redactor))
    logger = logging.getLogger("collegium.planted")
    logger.addHandler(handler)
    logger.propagate = False
    for one in planted.secrets:
        logger.warning("failed: %s", one.said)
        try:
            raise RuntimeError(one.said)
        except RuntimeError:
            logger.exception("that was %s", one.said)
    logger.removeHandler(handler)
    return out.getvalue()


def _errors(planted: Planted) -> Iterator[str]:
    """What errors say by themselves, and as the edges of the program pass them on."""
    for one in planted.secrets:
        error = StoreUnavailable(one.said, url=one.said)
        yield planted.redactor.text(f"{error.message} {error} {error.fields}")
        if one.kind not in ("provider", "pepper", "store"):
            yield str(error)  # by its shape alone


async def _answered(planted: Planted) -> str:
    """Problem documents whose texts quote secrets, fields included."""

    async def fail(request: Request) -> Response:
        raise ModelAuthError(planted.secrets[int(request.path_params["n"])].said)

    clock, got = FakeClock(), []

    async def nothing() -> tuple[()]:
        return ()

    async with team(ScriptedModel([])) as app:
        faces = Faces(opened=lambda: app, authenticator=OpenDoor("default"))
        served = build(
            "127.0.0.1", Readiness({}, clock=clock), Metrics(nothing, clock=clock), faces=faces,
            routes=[Route("/fail/{n:int}", fail)],
        )  # fmt: skip
        served.state.redactor = planted.redactor
        transport = httpx.ASGITransport(served, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            for n, one in enumerate(planted.secrets):
                reply = await http.get(f"/fail/{n}")
                assert reply.status_code >= 400
                got.append(f"{reply.text} {dict(reply.headers)}")
                missing = await http.get(f"/v1/runs/{one.text.replace('/', '_')}")
                assert missing.status_code == 404
                if one.kind in ("key", "webhook", "provider", "store"):
                    got.append(missing.text)
    return "\n".join(got)


async def _noted(planted: Planted) -> str:
    async with team(ScriptedModel([])) as app:
        log = AdminLog(app.stores.journal, now=app.now)
        for one in planted.of("key", "webhook", "session", "ticket"):
            await log.note("default", LogNoted(actor="local", action="a.b", object=one.said, reason=one.said))
        return "\n".join([str(deed) async for deed in log.lines("default")])


class Listening(ScriptedModel):
    """Remembers what it was asked."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(steps, ordered=False)
        self.heard: list[str] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The scripted reply."""
        self.heard.append(str(request))
        return await super().complete(request)


async def _worked(planted: Planted) -> dict[str, str]:
    """A team whose tools print every secret: what models, journals and exports get of them."""
    own = planted.secrets

    @tool(effect="read")
    def environment() -> dict[str, object]:
        """Prints the environment."""
        return {
            "found": [one.said for one in own],
            **{one.text: base64.b64encode(one.text.encode()).decode() for one in own},
        }

    @tool(effect="read")
    def broken() -> str:
        """Fails."""
        raise ToolError("\n".join(one.said for one in own))

    calls = tuple(ToolCall(id=name, name=name, arguments={}) for name in ("environment", "broken"))
    steps = [Step(expect_last=("redacted",), reply="Done.", times=None), Step(tool_calls=calls, times=None)]
    model = Listening(steps)
    tools: list[FunctionTool] = [environment, broken]
    async with team(model, tools=tools, redactor=planted.redactor) as app:
        run = await app.submit("Look around.", plan=PLAN, tools=("environment", "broken"))
        report = await asyncio.wait_for(run.result(), 60)
        assert report.status == "succeeded", report
        lines = [line async for line in export(run.id, app.stores, tenant="default", now=app.now(), key=PUBLIC_KEY)]
        events = await _events(app, run.id)
    assert "tool.finished" in events
    return {"prompts": "\n".join(model.heard), "events": events, "exports": _plain(b"".join(lines))}


async def _events(app: Collegium, run: str) -> str:
    return "\n".join([f"{event.type} {event.body}" async for event in app.events(run)])


def _plain(exported: bytes) -> str:
    """An export with what it holds in Base64 opened."""
    texts = [exported.decode()]

    def walk(value: object) -> None:
        if isinstance(value, str) and len(value) > 20:
            with suppress(ValueError):
                texts.append(base64.b64decode(value, validate=True).decode())
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(one)

    for line in exported.splitlines():
        walk(json.loads(line))
    return "\n".join(texts)
