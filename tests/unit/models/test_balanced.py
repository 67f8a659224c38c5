"""Several keys of one provider: calls go where there is room, past those that rest, and wait where there is none."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.quota import MemoryQuota
from collegium.adapters.models.defaults import default_model_name
from collegium.adapters.models.key_ring import KeyRing, ModelRate
from collegium.adapters.models.keys import fingerprint, has_key, read_keys
from collegium.adapters.models.registry import ModelRegistry, ModelSettings
from collegium.adapters.models.retrying import RetryPolicy
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.redis.quota import RedisQuota
from collegium.config import explain, load_settings
from collegium.domain.chat import Delta, ModelReply, ModelRequest
from collegium.domain.errors import MissingKey, ModelAuthError, ModelRateLimited, StoreUnavailable
from collegium.domain.rate import Rate
from collegium.domain.usage import Usage
from collegium.ports import Model, Quota
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.model import ask
from collegium.testing.loopback import HttpAnswer, HttpRequest, LoopbackServer
from collegium.testing.model_server import error_answer, reply_answer
from collegium.testing.servers import Server

ONE, TWO, THREE = (f"sk-{word}-0123456789abcdef" for word in ("one", "two", "three"))
REPLY = ModelReply(text="Ledger", usage=Usage(input_tokens=40, output_tokens=10))
NAME = "openai:gpt-6.1-terra"
Policy = Callable[[str, int], HttpAnswer | None]
"""From a key and how often it was used to an answer that is no reply; None for the reply."""


class KeyServer(LoopbackServer):
    """A provider that counts the calls of each key."""

    def __init__(self, policy: Policy = lambda key, count: None) -> None:
        super().__init__(self._answer)
        self.calls: Counter[str] = Counter()
        self._policy = policy

    def _answer(self, request: HttpRequest) -> HttpAnswer:
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.calls[key] += 1
        is_stream = b'"stream":true' in request.body.replace(b" ", b"")
        return self._policy(key, self.calls[key]) or reply_answer(REPLY, stream=is_stream)


def slow_down(seconds: str = "30") -> HttpAnswer:
    return error_answer(429, "slow down", headers={"Retry-After": seconds})


def registry(
    folder: Path, server: LoopbackServer, keys: str, rate: ModelRate | None = None, **options: Any
) -> ModelRegistry:
    rates = {} if rate is None else {"openai:*": rate}
    return ModelRegistry(
        environ={"OPENAI_API_KEY": keys, "OPENAI_BASE_URL": f"{server.url}/v1"},
        data_dir=folder,
        clock=options.pop("clock", SystemClock()),
        random=lambda: 0.0,
        settings=ModelSettings(is_openai_lean=True, rates=rates, retry=RetryPolicy(attempts=1)),
        **options,
    )


async def test_calls_take_turns_among_keys(tmp_path: Path) -> None:
    async with KeyServer() as server:
        models = registry(tmp_path, server, f"{ONE}, {TWO},{THREE}")
        model = await models.open(NAME)
        await asyncio.gather(*(model.complete(ask()) for _ in range(9)))
        await models.aclose()
    assert server.calls == {ONE: 3, TWO: 3, THREE: 3}


async def test_a_key_that_is_told_to_slow_down_rests_in_all_processes(tmp_path: Path) -> None:
    quota = MemoryQuota(SystemClock())
    async with KeyServer(lambda key, count: slow_down() if key == ONE else None) as server:
        one, other = (registry(tmp_path, server, f"{ONE},{TWO}", quota=quota) for _ in range(2))
        for models in (one, other):
            model = await models.open(NAME)
            for _ in range(4):
                assert (await model.complete(ask())).text == "Ledger", "the caller learns nothing of it"
            await models.aclose()
    assert server.calls == {ONE: 1, TWO: 8}


async def test_a_rest_is_over_when_the_provider_said(tmp_path: Path) -> None:
    async with KeyServer(lambda key, count: slow_down("0.2") if key == ONE and count == 1 else None) as server:
        models = registry(tmp_path, server, f"{ONE},{TWO}")
        model = await models.open(NAME)
        async with asyncio.timeout(10):
            while server.calls[ONE] < 2:
                await model.complete(ask())
        await models.aclose()


async def test_all_keys_resting_is_told_with_the_time(tmp_path: Path) -> None:
    async with KeyServer(lambda key, count: slow_down("300")) as server:
        models = registry(tmp_path, server, f"{ONE},{TWO}")
        model = await models.open(NAME)
        with pytest.raises(ModelRateLimited, match="slow down"):
            await model.complete(ask())
        with pytest.raises(ModelRateLimited, match="each of its 2 keys") as caught:
            await model.complete(ask())
        assert caught.value.retry_after_s == pytest.approx(300, abs=5)
        assert ONE not in str(caught.value)
        await models.aclose()
    assert server.calls == {ONE: 1, TWO: 1}


async def test_a_refused_key_is_left_alone_while_there_are_others(tmp_path: Path) -> None:
    refused = error_answer(401, "Incorrect API key provided", code="invalid_api_key")
    async with KeyServer(lambda key, count: refused if key == ONE else None) as server:
        models = registry(tmp_path, server, f"{ONE},{TWO}")
        model = await models.open(NAME)
        for _ in range(5):
            await model.complete(ask())
        await models.aclose()
    assert server.calls == {ONE: 1, TWO: 5}
    async with KeyServer(lambda key, count: refused) as server:
        models = registry(tmp_path, server, f"{ONE},{TWO}")
        model = await models.open(NAME)
        for _ in range(2):
            with pytest.raises(ModelAuthError):
                await model.complete(ask())
        await models.aclose()


async def test_a_stream_goes_on_with_the_next_key_too(tmp_path: Path) -> None:
    async with KeyServer(lambda key, count: slow_down() if key == ONE else None) as server:
        models = registry(tmp_path, server, f"{ONE},{TWO}")
        model = await models.open(NAME)
        for _ in range(2):
            items = [item async for item in model.stream(ask())]
            assert "".join(i.text for i in items if isinstance(i, Delta)) == "Ledger"
        await models.aclose()
    assert server.calls == {ONE: 1, TWO: 2}


async def test_one_key_with_a_rate_is_held_to_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with KeyServer() as server:
        models = registry(
            tmp_path, server, ONE, ModelRate(requests_per_minute=6), clock=clock, quota=MemoryQuota(clock)
        )
        model = await models.open(NAME)
        for _ in range(6):
            await model.complete(ask())
        late = asyncio.create_task(model.complete(ask()))
        await clock.advance(9.0)
        assert not late.done()
        assert server.calls[ONE] == 6
        await clock.advance(1.1)
        assert (await asyncio.wait_for(late, 10)).text == "Ledger"
        await models.aclose()


class Rings:
    """Two processes with a ring each over the same quota."""

    def __init__(self, rate: ModelRate, names: tuple[str, ...] = ("a", "b"), quota: Quota | None = None) -> None:
        self.clock = FakeClock()
        quota = quota or MemoryQuota(self.clock)
        self.one, self.other = (KeyRing("openai:*", names, rate, quota=quota, clock=self.clock) for _ in range(2))


async def use(ring: KeyRing, tokens: float = 10.0, used: float | None = None) -> int:
    async with ring.turn(tokens) as turn:
        turn.used = used
    return turn.key


async def test_requests_of_all_processes_count_together_and_the_key_with_room_is_taken() -> None:
    rings = Rings(ModelRate(requests_per_minute=3))
    taken = [await use(ring) for _ in range(3) for ring in (rings.one, rings.other)]
    assert Counter(taken) == {0: 3, 1: 3}
    waiting = asyncio.create_task(use(rings.one))
    await rings.clock.advance(19.0)
    assert not waiting.done()
    await rings.clock.advance(1.5)
    assert waiting.done()


async def test_tokens_that_were_reserved_and_not_used_are_given_back() -> None:
    rings = Rings(ModelRate(tokens_per_minute=1_000, requests_per_minute=1_000), names=("a",))
    for _ in range(5):
        await use(rings.one, tokens=500.0, used=100.0)
    waiting = asyncio.create_task(use(rings.other, tokens=900.0))
    await rings.clock.advance(23.0)
    assert not waiting.done(), "500 are left, and 900 are wanted"
    await rings.clock.advance(2.0)
    assert waiting.done()


async def test_the_key_with_more_tokens_left_is_taken() -> None:
    rings = Rings(ModelRate(tokens_per_minute=1_000))
    assert await use(rings.one, tokens=800.0) == 0
    assert [await use(rings.one, tokens=100.0) for _ in range(6)] == [1] * 6
    assert [await use(rings.one, tokens=100.0) for _ in range(3)] == [1, 1, 0]


async def test_a_call_waits_no_longer_than_its_patience() -> None:
    rings = Rings(ModelRate(requests_per_minute=0.1), names=("a",))
    await use(rings.one, tokens=1.0)
    with pytest.raises(ModelRateLimited, match="no room") as caught:
        await use(rings.one, tokens=1.0)
    assert (caught.value.retry_after_s or 0) > 60


async def test_calls_at_once_are_counted_over_keys_and_processes() -> None:
    rings = Rings(ModelRate(concurrent=2))
    at_once, peak, go = 0, 0, asyncio.Event()

    async def call(ring: KeyRing) -> None:
        nonlocal at_once, peak
        async with ring.turn(1.0):
            at_once += 1
            peak = max(peak, at_once)
            await go.wait()
            at_once -= 1

    calls = [asyncio.create_task(call(ring)) for _ in range(3) for ring in (rings.one, rings.other)]
    await rings.clock.advance(40.0)
    assert at_once == 2, "those that go on for long keep their places"
    go.set()
    while not all(c.done() for c in calls):
        await rings.clock.advance(0.1)
    assert peak == 2


class Away:
    """A quota that cannot be reached."""

    async def take(self, bucket: str, rate: Rate, amount: float = 1.0) -> float:
        raise StoreUnavailable("away")

    async def left(self, bucket: str, rate: Rate) -> float:
        raise StoreUnavailable("away")

    async def refund(self, bucket: str, rate: Rate, amount: float) -> None:
        raise StoreUnavailable("away")

    async def hold(self, bucket: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        raise StoreUnavailable("away")

    async def release(self, bucket: str, holder: str) -> None:
        raise StoreUnavailable("away")


async def test_a_quota_that_is_away_holds_up_nobody() -> None:
    rings = Rings(ModelRate(requests_per_minute=1, tokens_per_minute=1, concurrent=1), quota=Away())
    assert [await use(rings.one, used=1.0) for _ in range(4)] == [0, 1, 0, 1]


async def test_redis_shares_rests_rates_and_calls_at_once(redis: Server) -> None:
    clock, prefix = SystemClock(), f"test:{uuid.uuid4().hex}:"
    one, two = RedisConnection(redis.url), RedisConnection(redis.url)
    try:
        rate = ModelRate(requests_per_minute=60, tokens_per_minute=600, concurrent=1)
        first, second = (
            KeyRing(
                "openai:*", ("a", "b"), rate, quota=RedisQuota(c, clock, prefix=prefix), clock=clock, patience_s=0.3
            )
            for c in (one, two)
        )
        async with first.turn(10.0) as turn:
            turn.rest_s = 30.0
            with pytest.raises(ModelRateLimited):
                await use(second)
        assert turn.key == 0
        assert [await use(second, used=10.0) for _ in range(3)] == [1, 1, 1]
        await use(first, tokens=560.0)
        with pytest.raises(ModelRateLimited):
            await use(second, tokens=100.0)
    finally:
        await one.aclose()
        await two.aclose()


def test_keys_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    assert read_keys(variables, {"GOOGLE_API_KEY": f" {ONE} ,{TWO},, {ONE}"}) == (ONE, TWO)
    file = tmp_path / "keys"
    file.write_text(f"# of the first account\n{ONE}\n\n{TWO}, {THREE}\n")
    environ = {"GOOGLE_API_KEY_FILE": str(file)}
    assert read_keys(variables, environ) == (ONE, TWO, THREE)
    assert has_key(variables, environ)
    assert not has_key(variables, {"OPENAI_API_KEY": ONE})
    assert read_keys(variables, {"GEMINI_API_KEY": THREE, **environ}) == (THREE,)
    file.write_text("# none\n")
    with pytest.raises(MissingKey, match="holds no key"):
        read_keys(variables, environ)
    with pytest.raises(MissingKey, match="cannot be read"):
        read_keys(variables, {"GOOGLE_API_KEY_FILE": str(tmp_path / "none")})
    file.write_text("two words\n")
    with pytest.raises(MissingKey, match="GOOGLE_API_KEY_FILE"):
        read_keys(variables, environ)


async def test_a_file_of_keys_chooses_the_default_model() -> None:
    async def none() -> None:
        return None

    assert await default_model_name({"ANTHROPIC_API_KEY_FILE": "/run/keys"}, none) == "anthropic:claude-sonnet-5-5"


def test_each_key_is_masked(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "OPENAI_API_KEY": f"{ONE},{TWO}x", "GOOGLE_API_KEY_FILE": "/run/keys"}
    shown = {row.key: row.value for row in explain(load_settings(None, environ, {}))}
    assert shown["OPENAI_API_KEY"] == "****cdef, ****defx"
    assert shown["GOOGLE_API_KEY_FILE"] == "/run/keys"
    assert len({fingerprint(k) for k in (ONE, TWO, THREE)}) == 3
    assert not any(part in fingerprint(ONE) for part in ONE.split("-"))


async def test_models_of_one_pattern_share_their_rates_and_others_have_none(tmp_path: Path) -> None:
    clock = FakeClock()
    async with KeyServer() as server:
        models = registry(
            tmp_path, server, ONE, ModelRate(requests_per_minute=2), clock=clock, quota=MemoryQuota(clock)
        )
        terra, luna = await models.open(NAME), await models.open("openai:gpt-6.1-luna")
        await terra.complete(ask())
        await luna.complete(ask())
        late = asyncio.create_task(_text(terra, ask()))
        await clock.advance(1.0)
        assert not late.done()
        free = await models.open(f"openai-compatible:any@{server.url}/v1")
        with pytest.raises(Exception, match="authorization"):
            await free.complete(ask())
        await clock.advance(60.0)
        assert await asyncio.wait_for(late, 10) == "Ledger"
        await models.aclose()
        server._failures.clear()


async def _text(model: Model, request: ModelRequest) -> str:
    return (await model.complete(request)).text
