"""Retries, fallback chains with circuit breakers, and the response cache; time and chance are the test's own."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from collegium.adapters.models.breaker import BreakerPolicy
from collegium.adapters.models.caching import CachingModel, request_hash
from collegium.adapters.models.fallback import FallbackModel, weakest
from collegium.adapters.models.retrying import RetryingModel, RetryPolicy
from collegium.domain import errors
from collegium.domain.chat import Delta, ModelReply, ToolCall
from collegium.domain.usage import FREE, Price, Usage
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.model import ask, whole
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step

DOWN = errors.ModelUnavailable("down")
GARBAGE = errors.ModelReplyError("garbage")
REFUSED = errors.ModelRequestError("refused")
POLICY = RetryPolicy(attempts=4, base_s=1.0, max_s=3.0, total_s=60.0)


class Waits(FakeClock):
    """A clock whose sleeps end at once, each written down."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await self.advance(seconds)


def retrying(*steps: Step, clock: Waits, random: Callable[[], float] = lambda: 1.0) -> RetryingModel:
    return RetryingModel(ScriptedModel(steps), clock=clock, random=random, policy=POLICY)


async def test_waits_double_up_to_a_cap_with_full_jitter() -> None:
    clock = Waits()
    model = retrying(Step(error=DOWN, times=3), Step(reply="ok"), clock=clock)
    assert (await model.complete(ask())).text == "ok"
    assert clock.waits == [1.0, 2.0, 3.0]
    half = Waits()
    await retrying(Step(error=DOWN), Step(reply="ok"), clock=half, random=lambda: 0.5).complete(ask())
    assert half.waits == [0.5]


async def test_retry_after_is_kept_to() -> None:
    clock = Waits()
    limited = errors.ModelRateLimited("slow down", retry_after_s=10.0)
    await retrying(Step(error=limited), Step(reply="ok"), clock=clock).complete(ask())
    assert clock.waits == [11.0]


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    clock = Waits()
    limited = errors.ModelRateLimited("slow down", retry_after_s=3_600.0)
    with pytest.raises(errors.ModelRateLimited):
        await retrying(Step(error=limited), clock=clock).complete(ask())
    assert clock.waits == []


async def test_the_number_of_attempts() -> None:
    clock = Waits()
    with pytest.raises(errors.ModelUnavailable) as caught:
        await retrying(Step(error=DOWN, times=4), clock=clock).complete(ask())
    assert caught.value.fields["attempts"] == 4
    with pytest.raises(errors.ModelReplyError) as garbage:
        await retrying(Step(error=GARBAGE, times=2), clock=clock).complete(ask())
    assert garbage.value.fields["attempts"] == 2


async def test_only_retryable_errors_are_retried() -> None:
    clock = Waits()
    for error in (REFUSED, errors.ModelAuthError("key"), errors.ModelNotFound("model"), errors.ContextTooLong("long")):
        with pytest.raises(type(error)):
            await retrying(Step(error=error), clock=clock).complete(ask())
    assert clock.waits == []


class Breaking:
    """Streams one piece, then breaks; counts its calls."""

    profile = SCRIPTED_PROFILE

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: object) -> ModelReply:
        raise DOWN

    async def stream(self, request: object):
        self.calls += 1
        yield Delta(text="The")
        raise DOWN

    async def aclose(self) -> None:
        pass


async def test_a_stream_that_has_begun_is_not_begun_again() -> None:
    for wrap in (
        lambda inner: RetryingModel(inner, clock=Waits(), random=lambda: 1.0),
        lambda inner: FallbackModel([inner, ScriptedModel([Step(reply="other")])], clock=Waits()),
    ):
        inner = Breaking()
        with pytest.raises(errors.ModelUnavailable):
            await whole(wrap(inner), ask())
        assert inner.calls == 1


async def test_a_stream_that_has_not_begun_is_begun_again() -> None:
    model = retrying(Step(error=DOWN), Step(reply="ok"), clock=Waits())
    assert (await whole(model, ask())).text == "ok"


async def test_the_next_model_answers() -> None:
    first, second = ScriptedModel([Step(error=DOWN)]), ScriptedModel([Step(reply="second")])
    assert (await FallbackModel([first, second], clock=FakeClock()).complete(ask())).text == "second"


async def test_a_refused_request_goes_to_no_other_model() -> None:
    second = ScriptedModel([])
    chain = FallbackModel([ScriptedModel([Step(error=REFUSED)]), second], clock=FakeClock())
    with pytest.raises(errors.ModelRequestError):
        await chain.complete(ask())
    assert second.requests == []


async def test_the_circuit_opens_tries_and_closes() -> None:
    clock = FakeClock()
    first = ScriptedModel([Step(error=DOWN, times=3), Step(error=DOWN), Step(reply="first", times=2)])
    second = ScriptedModel([Step(reply="second", times=None)])
    chain = FallbackModel([first, second], clock=clock, policy=BreakerPolicy(failures=3, cool_down_s=30))

    async def asked() -> str:
        return (await chain.complete(ask())).text

    assert [await asked() for _ in range(5)] == ["second"] * 5
    assert len(first.requests) == 3  # open: the first model is left alone
    await clock.advance(30)
    assert await asked() == "second"
    assert len(first.requests) == 4  # half-open: one try, which failed
    await clock.advance(29)
    assert await asked() == "second"
    assert len(first.requests) == 4
    await clock.advance(1)
    assert [await asked(), await asked()] == ["first", "first"]  # closed again
    first.verify()


async def test_one_try_at_a_time_while_half_open() -> None:
    clock = FakeClock()
    slow = ScriptedModel([Step(error=DOWN), Step(reply="first", delay_s=5.0)], clock=clock)
    second = ScriptedModel([Step(reply="second", times=None)])
    chain = FallbackModel([slow, second], clock=clock, policy=BreakerPolicy(failures=1, cool_down_s=30))
    await chain.complete(ask())
    await clock.advance(30)
    trying = asyncio.ensure_future(chain.complete(ask()))
    await clock.advance(1)
    assert (await chain.complete(ask())).text == "second"
    await clock.advance(5)
    assert (await trying).text == "first"


async def test_a_cancelled_try_leaves_the_circuit_to_the_next_call() -> None:
    clock = FakeClock()
    slow = ScriptedModel([Step(error=DOWN), Step(delay_s=5.0, reply="x"), Step(reply="first")], clock=clock)
    chain = FallbackModel([slow], clock=clock, policy=BreakerPolicy(failures=1, cool_down_s=30))
    with pytest.raises(errors.ModelUnavailable):
        await chain.complete(ask())
    await clock.advance(30)
    trying = asyncio.ensure_future(chain.complete(ask()))
    await clock.advance(1)
    trying.cancel()
    await clock.advance(0)
    assert (await chain.complete(ask())).text == "first"


async def test_all_circuits_open() -> None:
    chain = FallbackModel(
        [ScriptedModel([Step(error=DOWN)])], clock=FakeClock(), policy=BreakerPolicy(failures=1, cool_down_s=30)
    )
    with pytest.raises(errors.ModelUnavailable, match="down"):
        await chain.complete(ask())
    with pytest.raises(errors.ModelUnavailable, match="next try is in 30 s") as caught:
        await chain.complete(ask())
    assert caught.value.fields["retry_after_s"] == 30


def test_a_chain_promises_what_all_can_do() -> None:
    strong = msgspec.structs.replace(
        SCRIPTED_PROFILE, name="a", price=Price(input_usd=Decimal(1), output_usd=Decimal(8)), is_local=False
    )
    weak = msgspec.structs.replace(SCRIPTED_PROFILE, name="b", tool_mode="schema", can_plan=False, context_tokens=4_096)
    both = weakest((strong, weak))
    assert (both.name, both.tool_mode, both.can_plan, both.context_tokens) == ("a,b", "schema", False, 4_096)
    assert both.price is not None
    assert both.price.output_usd == 8
    assert not both.is_local
    assert weakest((weak, weak)).price is FREE
    assert weakest((strong, msgspec.structs.replace(weak, price=None))).price is None


class DictCache:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self.kept[key] = value


class BrokenCache:
    async def get(self, key: str) -> bytes | None:
        raise errors.StoreUnavailable("away")

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        raise errors.StoreFull("full")


async def test_a_hit_costs_nothing_and_says_so() -> None:
    spent = Usage(input_tokens=100, output_tokens=5, cost_usd=Decimal("0.01"), model_calls=1)
    inner = ScriptedModel([Step(reply="Ledger", usage=spent)])
    model = CachingModel(inner, DictCache())
    assert (await model.complete(ask())).usage == spent
    hit = await model.complete(ask())
    assert (hit.text, hit.usage) == ("Ledger", Usage())
    assert [type(item) for item in [i async for i in model.stream(ask())]] == [Delta, ModelReply]
    inner.verify()


async def test_what_is_not_kept() -> None:
    for request, step in (
        (ask(temperature=0.7), Step(reply="x", times=2)),
        (ask(), Step(reply="x", finish="length", times=2)),
        (ask(), Step(reply="x", finish="refusal", times=2)),
    ):
        inner = ScriptedModel([step])
        model = CachingModel(inner, DictCache())
        await model.complete(request)
        await whole(model, request)
        inner.verify()


async def test_a_cache_that_is_away_costs_only_time() -> None:
    model = CachingModel(ScriptedModel([Step(reply="Ledger", times=2)]), BrokenCache())
    assert (await model.complete(ask())).text == "Ledger"
    assert (await whole(model, ask())).text == "Ledger"


async def test_a_kept_value_of_another_version_is_a_miss() -> None:
    cache = DictCache()
    cache.kept[f"model:{request_hash(ask(), SCRIPTED_PROFILE.name)}"] = b"{nonsense"
    assert (await CachingModel(ScriptedModel([Step(reply="Ledger")]), cache).complete(ask())).text == "Ledger"


async def test_tool_calls_are_kept() -> None:
    call = ToolCall(id="c1", name="search", arguments={"query": "x"})
    model = CachingModel(ScriptedModel([Step(tool_calls=(call,))]), DictCache())
    assert (await model.complete(ask())).tool_calls == (await model.complete(ask())).tool_calls == (call,)


def test_the_hash_is_of_what_is_asked_not_of_its_form() -> None:
    one = ask(output_schema={"type": "object", "required": ["a"]})
    two = ask(output_schema={"required": ["a"], "type": "object"}, cached_prefix=1)
    assert request_hash(one, "m") == request_hash(two, "m")
    assert request_hash(one, "m") != request_hash(one, "n")
    assert request_hash(one, "m") != request_hash(ask(max_output_tokens=65), "m")
