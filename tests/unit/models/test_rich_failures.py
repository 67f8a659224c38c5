"""What goes wrong at the vendors: overload, web pages, garbage, broken streams, nobody there."""

import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.names import parse_name
from collegium.adapters.models.pricing import Pricing
from collegium.domain import errors
from collegium.domain.chat import ModelRequest
from collegium.domain.usage import Price
from collegium.testing.conformance.model import RESULTS, SCHEMA, TEXT, TOOLS, ask, whole
from collegium.testing.loopback import HttpAnswer, HttpRequest, LoopbackServer
from collegium.testing.model_server import endless_answer, error_answer, stream_answer
from collegium.testing.scripted import SCRIPTED_PROFILE
from tests.unit.models import vendor_anthropic, vendor_google, vendor_openai

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

KEY = "sk-secret-0123456789abcdef"
NAMES = {
    "openai": "openai:gpt-6.1-terra",
    "anthropic": "anthropic:claude-sonnet-5-5",
    "google": "google:gemini-3.8-flash",
}
VENDORS: dict[str, Any] = {"openai": vendor_openai, "anthropic": vendor_anthropic, "google": vendor_google}
FIRST_EVENTS: dict[str, list[bytes]] = {
    "openai": [vendor_openai.event(e) for e in vendor_openai.events(TEXT.reply)[:4]],  # type: ignore[arg-type]
    "anthropic": [vendor_anthropic.event(e) for e in vendor_anthropic.events(TEXT.reply)[:4]],  # type: ignore[arg-type]
    "google": [f"data: {json.dumps(vendor_google.chunks(TEXT.reply)[0])}\n\n".encode()],  # type: ignore[arg-type]
}
every_vendor = pytest.mark.parametrize("provider", NAMES)


def open_at(url: str, provider: str, **options: Any) -> Any:
    from collegium.adapters.models.rich import open_rich

    values: dict[str, Any] = {"pricing": Pricing(None), "timeouts": Timeouts(total_s=5.0), **options}
    profile = msgspec.structs.replace(SCRIPTED_PROFILE, name=NAMES[provider])
    base_url = url + ("/v1" if provider == "openai" else "")
    return open_rich(parse_name(NAMES[provider]), key=KEY, base_url=base_url, profile=profile, **values)


@asynccontextmanager
async def opened(provider: str, handler: Callable[[HttpRequest], HttpAnswer], **options: Any):
    async with LoopbackServer(handler) as server:
        model = open_at(server.url, provider, **options)
        try:
            yield model, server
        finally:
            await model.aclose()


async def failure(call: Any) -> errors.ModelError:
    with pytest.raises(errors.ModelError) as caught:
        await call
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.fields)
    return caught.value


@every_vendor
async def test_nobody_there(provider: str) -> None:
    model = open_at("http://127.0.0.1:1", provider)
    assert type(await failure(model.complete(ask()))) is errors.ModelUnavailable
    assert type(await failure(whole(model, ask()))) is errors.ModelUnavailable
    assert KEY not in repr(model)
    await model.aclose()


async def test_anthropic_overloaded_is_a_rate_limit() -> None:
    answer = vendor_anthropic.error_answer(529, "overloaded_error", "Overloaded", wait_s=3)
    async with opened("anthropic", lambda _: answer) as (model, _):
        error = await failure(model.complete(ask()))
        assert isinstance(error, errors.ModelRateLimited)
        assert error.retry_after_s == 3


async def test_anthropic_overloaded_within_a_stream() -> None:
    broken = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    pieces = [*FIRST_EVENTS["anthropic"], vendor_anthropic.event(broken)]
    async with opened("anthropic", lambda _: stream_answer(pieces)) as (model, _):
        assert type(await failure(whole(model, ask()))) is errors.ModelRateLimited


async def test_no_credit_is_no_rate_limit() -> None:
    answer = error_answer(429, "You exceeded your current quota", code="insufficient_quota")
    async with opened("openai", lambda _: answer) as (model, _):
        error = await failure(model.complete(ask()))
        assert type(error) is errors.ModelAuthError
        assert not error.retryable


@every_vendor
async def test_a_web_page(provider: str) -> None:
    page = HttpAnswer(status=404, body=b"<html><h1>404</h1></html>", content_type="text/html")
    async with opened(provider, lambda _: page) as (model, _):
        error = await failure(model.complete(ask()))
        assert type(error) is errors.ModelNotFound
        assert NAMES[provider] in str(error)


@every_vendor
async def test_garbage(provider: str) -> None:
    async with opened(provider, lambda _: HttpAnswer(body=b'{"choi')) as (model, _):
        assert type(await failure(model.complete(ask()))) is errors.ModelReplyError


@every_vendor
async def test_a_stream_that_breaks_off(provider: str) -> None:
    async with opened(provider, lambda _: stream_answer(FIRST_EVENTS[provider])) as (model, _):
        assert isinstance(await failure(whole(model, ask())), errors.ModelReplyError | errors.ModelUnavailable)


@every_vendor
async def test_a_connection_that_breaks_off(provider: str) -> None:
    answer = stream_answer(FIRST_EVENTS[provider], is_cut=True)
    async with opened(provider, lambda _: answer) as (model, _):
        error = await failure(whole(model, ask()))
        assert isinstance(error, errors.ModelReplyError | errors.ModelUnavailable)
        assert error.retryable


@every_vendor
async def test_a_stream_that_never_ends(provider: str) -> None:
    answer = endless_answer(b": still here\n\n")
    async with opened(provider, lambda _: answer, timeouts=Timeouts(total_s=0.5)) as (model, _):
        assert isinstance(await failure(whole(model, ask())), errors.ModelUnavailable | errors.ModelReplyError)


@every_vendor
async def test_usage_is_priced(provider: str) -> None:
    from decimal import Decimal

    pricing = Pricing(Price(input_usd=Decimal(2), output_usd=Decimal(10), cached_input_usd=Decimal("0.2")))
    vendor = VENDORS[provider]
    async with opened(provider, lambda r: vendor.answer(TEXT, r), pricing=pricing) as (model, _):
        reply = await model.complete(TEXT.request)
        assert reply.is_price_known
        # 56 fresh, 64 cached, 9 out
        assert reply.usage.cost_usd == (56 * Decimal(2) + 64 * Decimal("0.2") + 9 * Decimal(10)) / 1_000_000


def sent(server: LoopbackServer) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(server.requests[-1].body)
    return body


async def test_what_openai_is_sent() -> None:
    async with opened("openai", lambda r: vendor_openai.answer(TOOLS, r)) as (model, server):
        await model.complete(msgspec.structs.replace(TOOLS.request, cached_prefix=1))
        body = sent(server)
        assert body["store"] is False
        assert len(body["prompt_cache_key"]) == 32
        assert body["tool_choice"] == "required"
        assert body["max_output_tokens"] == 64
        assert "temperature" not in body  # the model thinks


async def test_what_anthropic_is_sent() -> None:
    async with opened("anthropic", lambda r: vendor_anthropic.answer(RESULTS, r)) as (model, server):
        await model.complete(RESULTS.request)
        body = sent(server)
        assert body["max_tokens"] == 64
        assert body["system"][-1]["cache_control"]["type"] == "ephemeral"
        assert body["tools"][-1]["cache_control"]["type"] == "ephemeral"
        question = body["messages"][0]["content"]
        assert question[-1]["cache_control"]["type"] == "ephemeral"  # the end of cached_prefix
        results = [block["tool_use_id"] for block in body["messages"][2]["content"]]
        assert results == ["call_a1", "call_b2"]


async def test_what_google_is_sent() -> None:
    async with opened("google", lambda r: vendor_google.answer(SCHEMA, r)) as (model, server):
        await model.complete(SCHEMA.request)
        config = sent(server)["generationConfig"]
        assert config["maxOutputTokens"] == 64
        assert config["responseMimeType"] == "application/json"


@every_vendor
async def test_nothing_is_retried_below(provider: str) -> None:
    """Retries are the business of RetryingModel alone: two layers of them would multiply."""
    async with opened(provider, lambda _: HttpAnswer(status=503, body=b"{}")) as (model, server):
        await failure(model.complete(ask()))
        assert len(server.requests) == 1


async def test_stop_texts_that_openai_does_not_take_are_cut_here() -> None:
    request: ModelRequest = msgspec.structs.replace(TEXT.request, stop=(" owns",))
    async with opened("openai", lambda r: vendor_openai.answer(TEXT, r)) as (model, _):
        assert (await model.complete(request)).text == "The team Ledger"
