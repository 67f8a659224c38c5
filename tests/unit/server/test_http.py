"""What is answered over real HTTP: health, readiness, metrics, problems; and what the guard of loopback refuses."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.domain.errors import NotFound, StoreUnavailable, UsageError
from collegium.domain.principal import Principal
from collegium.server.app import build
from collegium.server.caller import OpenDoor
from collegium.server.listener import Listener, listen, url_of
from collegium.server.metrics import Metrics
from collegium.server.readiness import FRESH_S, Away, Readiness
from collegium.telemetry import DISPATCH, RUNS, Meter, Reading
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Site:
    """A server in this process, with a clock that stands still."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.clock = FakeClock()
        self.looks = 0
        self.away: Sequence[Away] | Exception = ()
        self.meter = Meter()
        self.readiness = Readiness({"store": self._look}, clock=self.clock)
        self.app = build(host, self.readiness, Metrics(self._read, clock=self.clock), routes=[Route("/fail", _fail)])
        self.listening = listen("127.0.0.1", 0)
        self.url = url_of(self.listening)

    async def _look(self) -> Sequence[Away]:
        self.looks += 1
        if isinstance(self.away, Exception):
            raise self.away
        return self.away

    async def _read(self) -> tuple[Reading, ...]:
        return self.meter.readings()

    async def get(self, path: str, **headers: str) -> tuple[int, aiohttp.ClientResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=named) as reply:
            return reply.status, reply, await reply.read()

    async def problem(self, path: str, **headers: str) -> tuple[int, dict[str, object]]:
        status, reply, _ = await self.get(path, **headers)
        assert reply.content_type == "application/problem+json"
        document: dict[str, object] = await reply.json(content_type=None)
        assert document["status"] == status
        assert {"type", "title", "detail", "code", "trace_id"} <= document.keys()
        return status, document


@asynccontextmanager
async def site(host: str = "127.0.0.1") -> AsyncIterator[Site]:
    made = Site(host)
    listener = Listener(made.app, made.listening)
    listener.start()
    try:
        yield made
    finally:
        await listener.aclose()
        await listener.aclose()


async def _fail(request: Request) -> Response:
    match request.query_params["with"]:
        case "not_found":
            raise NotFound("there is no run run_1")
        case "store":
            raise StoreUnavailable("the store is away")
        case _:
            raise RuntimeError("secret detail")


async def test_a_living_process_is_told_from_a_ready_one() -> None:
    async with site() as here:
        here.away = (Away(what="store", why="it is being opened"),)
        assert (await here.get("/healthz"))[0] == 200
        status, document = await here.problem("/readyz")
        assert (status, document["code"]) == (503, "not_ready")
        assert document["away"] == [{"what": "store", "why": "it is being opened"}]
        here.away = ()
        await here.clock.advance(FRESH_S)
        assert (await here.get("/readyz"))[0] == 200


async def test_readiness_is_looked_up_once_a_second_however_many_ask() -> None:
    async with site() as here:
        await asyncio.gather(*(here.get("/readyz") for _ in range(20)))
        assert here.looks == 1
        await here.clock.advance(FRESH_S)
        await here.get("/readyz")
        assert here.looks == 2
        here.readiness.forget()
        await here.get("/readyz")
        assert here.looks == 3


async def test_a_store_that_raises_is_away_and_the_answer_says_when_to_come_again() -> None:
    async with site() as here:
        here.away = StoreUnavailable("postgresql://db:5432/x cannot be reached")
        status, reply, _ = await here.get("/readyz")
        assert status == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.headers["Cache-Control"] == "no-store"
        document = (await here.problem("/readyz"))[1]
        assert document["away"] == [{"what": "store", "why": "postgresql://db:5432/x cannot be reached"}]


async def test_what_does_not_answer_in_time_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collegium.server.readiness.ANSWER_S", 0.05)

    async def never() -> Sequence[Away]:
        await asyncio.Event().wait()
        return ()

    away = await Readiness({"bus": never}, clock=FakeClock()).away()
    assert [one.what for one in away] == ["bus"]


async def test_a_draining_process_is_alive_and_not_ready_at_once() -> None:
    async with site() as here:
        assert (await here.get("/readyz"))[0] == 200
        here.readiness.is_draining = True
        status, document = await here.problem("/readyz")
        assert (status, document["code"]) == (503, "draining")
        assert (await here.get("/healthz"))[0] == 200


async def test_errors_become_problems_with_the_status_of_their_class() -> None:
    async with site() as here:
        status, document = await here.problem("/fail?with=not_found")
        assert (status, document["code"], document["detail"]) == (404, "not_found", "there is no run run_1")
        status, reply, _ = await here.get("/fail?with=store")
        assert (status, "Retry-After" in reply.headers) == (503, True)
        status, document = await here.problem("/nothing")
        assert (status, document["detail"]) == (404, "there is no /nothing")
        async with aiohttp.ClientSession() as session, session.post(here.url + "/readyz", data=b"x") as reply:
            assert (reply.status, set(reply.headers["Allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_a_fault_of_ours_tells_nothing_but_its_id() -> None:
    async with site() as here:
        status, document = await here.problem("/fail?with=bug", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
        assert (status, document["code"], document["trace_id"]) == (500, "internal", TRACE)
        assert "secret" not in str(document)


async def test_a_fault_of_the_gate_itself_is_told_the_same_way(serve: Serve) -> None:
    class Confused(OpenDoor):
        async def identify(self, connection: HTTPConnection) -> Principal:
            raise RuntimeError("secret")

    async with team(working()) as app:
        reply = await (await serve(app, authenticator=Confused("default"))).http.get("/v1/runs")
        assert (reply.status_code, reply.json()["code"]) == (500, "internal")
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "secret" not in reply.text


@pytest.mark.parametrize("given", ["", "junk", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-1-01"])
async def test_a_trace_that_cannot_be_read_is_a_new_one(given: str) -> None:
    async with site() as here:
        found = (await here.problem("/nothing", traceparent=given))[1]["trace_id"]
        assert isinstance(found, str)
        assert len(found) == 32
        assert int(found, 16)
        assert found != TRACE


@pytest.mark.parametrize("host", ["evil.example.com", "127.0.0.1.nip.io:80", "", "[", "localhost.evil.com:8420"])
async def test_a_name_that_is_not_this_machine_s_is_misdirected(host: str) -> None:
    async with site() as here:
        assert (await here.problem("/healthz", Host=host))[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80"])
async def test_own_names_are_answered(host: str) -> None:
    async with site() as here:
        assert (await here.get("/healthz", Host=host))[0] == 200


async def test_requests_of_other_sites_pages_are_refused() -> None:
    async with site() as here:
        for headers in (
            {"Origin": "https://evil.example.com"},
            {"Origin": "null"},
            {"Origin": "http://localhost:3000"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ):
            assert (await here.problem("/healthz", **headers))[0] == 403, headers
        assert (await here.get("/healthz", Origin=here.url, Sec_Fetch_Site="same-origin"))[0] == 200


async def test_beyond_loopback_any_name_will_do() -> None:
    async with site("0.0.0.0") as here:
        assert (await here.get("/healthz", Host="collegium.example.com"))[0] == 200


async def test_metrics_are_read_by_prometheus() -> None:
    async with site() as here:
        here.meter.add(RUNS, "succeeded", amount=2)
        for seconds in (0.0005, 0.004, 0.004, 99.0):
            here.meter.observe(DISPATCH, seconds)
        status, reply, body = await here.get("/metrics")
        assert (status, reply.content_type) == (200, "text/plain")
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        runs = families["collegium_runs"].samples
        assert [(s.labels, s.value) for s in runs if s.name == "collegium_runs_total"] == [({"status": "succeeded"}, 2)]
        buckets = {s.labels.get("le", s.name): s.value for s in families["collegium_dispatch_seconds"].samples}
        assert (buckets["0.001"], buckets["0.005"], buckets["60"], buckets["+Inf"]) == (1, 3, 3, 4)
        assert buckets["collegium_dispatch_seconds_count"] == 4
        assert buckets["collegium_dispatch_seconds_sum"] == pytest.approx(99.0085)
        assert families["process_resident_memory_bytes"].samples[0].value > 0
        here.meter.add(RUNS, "failed")
        assert b"failed" not in (await here.get("/metrics"))[2], "read once a second"
        await here.clock.advance(FRESH_S)
        assert b"failed" in (await here.get("/metrics"))[2]


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            listen("127.0.0.1", port)


async def test_a_body_of_ten_megabytes_is_refused_and_harms_nobody() -> None:
    async with site() as here:
        async with (
            aiohttp.ClientSession() as session,
            session.post(here.url + "/readyz", data=io.BytesIO(b"x" * 10_000_000)) as r,
        ):
            assert r.status == 405
        assert (await here.get("/readyz"))[0] == 200
