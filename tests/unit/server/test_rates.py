"""Rates over HTTP: what is allowed, what is said to those who ask more, and that nobody else suffers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from collegium.adapters.memory.quota import MemoryQuota
from collegium.app import Collegium
from collegium.domain.errors import NotAuthenticated, StoreUnavailable
from collegium.domain.principal import SCOPES, Principal
from collegium.domain.rate import Rate
from collegium.server.rates.allowance import HANDFULS, IDLE_S, Allowance
from collegium.server.rates.limiter import Limiter
from collegium.server.rates.policy import WRITE_COST, RatePolicy, bounds
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.server.test_auth_keys import door
from tests.unit.stores.moved import working

_SLOW = Rate(per_s=0.5, burst=10.0)


class ByName:
    """Takes the bearer for the name of a tenant."""

    async def identify(self, connection: HTTPConnection) -> Principal:
        name = connection.headers.get("authorization", "").removeprefix("Bearer ")
        if not name or name.startswith("bad"):
            raise NotAuthenticated("nobody knows who asks")
        return Principal(id=f"key:{name}", tenant=name, scopes=SCOPES, kind="key", credential=name)


class Site:
    """A server with rates, whose clock stands still."""

    def __init__(self, served: Served, clock: FakeClock, quota: MemoryQuota) -> None:
        self.served, self.clock, self.quota = served, clock, quota

    async def get(self, name: str, path: str = "/v1/runs") -> httpx.Response:
        return await self.served.http.get(path, headers={"authorization": f"Bearer {name}"})

    async def many(self, name: str, count: int) -> list[int]:
        return [(await self.get(name)).status_code for _ in range(count)]


async def opened(serve: Serve, app: Collegium, policy: RatePolicy, *, proxies: Sequence[str] = ()) -> Site:
    clock = FakeClock()
    quota = MemoryQuota(clock)
    limiter = Limiter(policy, quota=lambda: quota, clock=clock)
    return Site(await serve(app, authenticator=ByName(), limiter=limiter, proxies=proxies), clock, quota)


async def test_a_key_has_its_rate_and_is_told_how_it_stands(serve: Serve):
    async with team(working()) as app:
        site = await opened(serve, app, RatePolicy(credential=_SLOW))
        first = await site.get("anna")
        assert first.headers["ratelimit-policy"] == '"key";q=10;w=20'
        assert first.headers["ratelimit"] == '"key";r=9;t=2'
        assert await site.many("anna", 10) == [200] * 9 + [429]
        refused = await site.get("anna")
        assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (429, "rate_limited", "key")
        assert refused.headers["retry-after"] == "2"
        assert (await site.get("berta")).status_code == 200
        await site.clock.advance(2.0)
        assert await site.many("anna", 2) == [200, 429]


async def test_a_change_costs_more_and_a_route_may_have_its_own_rate(serve: Serve):
    async with team(working()) as app:
        routes: Mapping[str, Rate] = {"POST /v1/runs": Rate(per_s=1 / 60, burst=2.0)}
        site = await opened(serve, app, RatePolicy(credential=Rate(per_s=1.0, burst=100.0), routes=routes))
        head = {"authorization": "Bearer anna"}
        said = [await site.served.http.post("/v1/runs", json={"goal": "Do both."}, headers=head) for _ in range(3)]
        assert [one.status_code for one in said] == [202, 202, 429]
        assert said[2].json()["limit"] == "route"
        # The refused one was given back.
        assert said[1].headers["ratelimit"].endswith(f'"key";r={100 - 2 * WRITE_COST:.0f};t=10')
        assert (await site.get("anna")).headers["ratelimit"].startswith(f'"key";r={100 - 2 * WRITE_COST - 1:.0f};')


async def test_a_tenant_that_storms_takes_nothing_from_another(serve: Serve):
    async with team(working()) as app:
        site = await opened(serve, app, RatePolicy(tenant=_SLOW, concurrent=4))
        storm = asyncio.gather(*(site.get("loud") for _ in range(60)))
        quiet = [await site.get("quiet") for _ in range(10)]
        assert [one.status_code for one in quiet] == [200] * 10
        codes = [one.status_code for one in await storm]
        assert codes.count(200) <= 10
        assert set(codes) == {200, 429}


async def test_who_guesses_is_slowed_down(serve: Serve):
    async with team(working()) as app:
        site = await opened(serve, app, RatePolicy(refusals=Rate(per_s=0.1, burst=3.0)))
        assert await site.many("bad", 6) == [401] * 4 + [429] * 2
        assert (await site.get("anna")).status_code == 429  # the same address, whoever it says it is
        await site.clock.advance(10.0)
        assert (await site.get("anna")).status_code == 200


@pytest.mark.parametrize(("proxies", "is_told_apart"), [((), False), (("10.0.0.0/8",), False), (("127.0.0.1",), True)])
async def test_only_a_proxy_that_is_named_says_who_guesses(serve: Serve, proxies: Sequence[str], is_told_apart: bool):
    async with team(working()) as app:
        site = await opened(serve, app, RatePolicy(refusals=Rate(per_s=0.1, burst=3.0)), proxies=proxies)
        head = {"authorization": "Bearer bad"}
        for number in range(6):
            await site.served.http.get("/v1/runs", headers={**head, "x-forwarded-for": f"198.51.100.{number}"})
        assert ((await site.get("anna")).status_code == 200) is is_told_apart


async def test_who_guesses_in_the_first_message_of_a_socket_is_slowed_down_too(serve: Serve):
    async with team(working()) as app:
        site = await opened(serve, app, RatePolicy(refusals=Rate(per_s=0.1, burst=3.0)))
        url = site.served.url.replace("http", "ws") + "/v1/ws"
        for headers in (None, None, {"authorization": "Bearer bad"}, {"authorization": "Bearer bad"}):
            with suppress(InvalidStatus):
                async with connect(url, additional_headers=headers) as socket:
                    await socket.send('{"op":"authenticate","token":"bad"}')
                    await socket.wait_closed()
        async with asyncio.timeout(10):  # a socket is counted when it has been closed on both sides
            while (await site.get("anna")).status_code == 200:  # noqa: ASYNC110 nobody tells
                await asyncio.sleep(0)
        await site.clock.advance(20.0)
        assert (await site.get("anna")).status_code == 200


async def test_logins_are_counted_like_any_other_change(serve: Serve):
    async with team(working()) as app:
        clock = FakeClock()
        quota = MemoryQuota(clock)
        keeper = door(app, clock)
        issued = await keeper.keys.create(tenant="default", roles=["viewer"], created_by="test")
        limiter = Limiter(RatePolicy(credential=_SLOW), quota=lambda: quota, clock=clock)
        http = (await serve(app, authenticator=keeper, limiter=limiter)).http
        codes = []
        for _ in range(4):
            http.cookies.clear()
            codes.append((await http.post("/auth/session", json={"key": issued.text})).status_code)
        assert codes == [201, 201, 429, 429], "a change costs five, and there are ten"


async def test_whoever_counts_may_be_away(serve: Serve):
    class Away(MemoryQuota):
        async def take(self, bucket: str, rate: Rate, amount: float = 1.0) -> float:
            raise StoreUnavailable("it is away")

    async with team(working()) as app:
        clock = FakeClock()
        quota = Away(clock)
        limiter = Limiter(RatePolicy(credential=_SLOW), quota=lambda: quota, clock=clock)
        served = await serve(app, authenticator=ByName(), limiter=limiter)
        reply = await served.http.get("/v1/runs", headers={"authorization": "Bearer anna"})
        assert reply.status_code == 200
        assert "ratelimit" not in reply.headers


async def test_processes_share_a_bucket_and_never_overdraw_it():
    clock = FakeClock()
    quota = MemoryQuota(clock)
    rate = Rate(per_s=1.0, burst=100.0)
    hands = [Allowance(quota, clock=clock) for _ in range(4)]
    taken = 0
    for n in range(200):
        taken += (await hands[n % 4].take("a", rate, 1.0)).wait_s == 0.0
    assert 100 - 4 * (100 / HANDFULS) <= taken <= 100
    await clock.advance(IDLE_S + 95.0)
    for hand in hands:
        await hand.sweep()
    assert await quota.left("a", rate) == pytest.approx(100.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 8.0)), max_size=80))
def test_what_several_hand_out_was_in_the_bucket(asked: list[tuple[int, float]]):
    async def play() -> None:
        clock = FakeClock()
        quota = MemoryQuota(clock)
        hands = [Allowance(quota, clock=clock) for _ in range(3)]
        rate, taken = Rate(per_s=2.0, burst=20.0), 0.0
        for who, amount in asked:
            if (await hands[who].take("a", rate, amount)).wait_s == 0.0:
                taken += amount
        assert taken <= rate.burst + 1e-6

    asyncio.run(play())


def test_the_longest_route_counts():
    routes = {"POST /v1/": _SLOW, "POST /v1/runs": Rate(per_s=1.0, burst=1.0)}
    (bound,) = bounds(RatePolicy(routes=routes), tenant="t", credential="c", method="POST", path="/v1/runs/batch")
    assert bound.rate.burst == 1.0
