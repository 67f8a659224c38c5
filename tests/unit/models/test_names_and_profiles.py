"""Names, profiles and prices: what is known of a model before it is called."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from collegium.adapters.models.gguf import GgufHeader
from collegium.adapters.models.names import parse_name, split_chain
from collegium.adapters.models.prices import UNLISTED, look_up
from collegium.adapters.models.pricing import FREE_PRICING, Pricing
from collegium.adapters.models.profiles import (
    ProfileChange,
    changed,
    endpoint_profile,
    hosted_profile,
    is_loopback,
    local_profile,
    weights_in_name,
)
from collegium.domain.errors import UnknownName
from collegium.domain.usage import FREE, Price, Usage
from collegium.testing.clock import FakeClock

CLOCK = FakeClock(datetime(2026, 11, 22, tzinfo=UTC))


def test_names() -> None:
    name = parse_name("openai-compatible:org/model@v2@http://127.0.0.1:8000/v1/")
    assert (name.provider, name.name, name.base_url) == (
        "openai-compatible",
        "org/model@v2",
        "http://127.0.0.1:8000/v1",
    )
    assert parse_name("local:/data/a b.gguf").name == "/data/a b.gguf"
    assert parse_name("openai:ft:gpt-6:me").name == "ft:gpt-6:me"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpt-6", "PROVIDER:NAME"),
        ("", "PROVIDER:NAME"),
        ("openai:", "PROVIDER:NAME"),
        ("opnai:gpt-6", "Did you mean 'openai'"),
        ("openai-compatible:llama3", "@URL"),
        ("openai-compatible:llama3@localhost:11434", "@URL"),
    ],
)
def test_wrong_names_say_what_to_write(text: str, says: str) -> None:
    with pytest.raises(UnknownName, match=says):
        parse_name(text)


def test_chains() -> None:
    assert split_chain("openai:a, anthropic:b,local:c") == ("openai:a", "anthropic:b", "local:c")
    assert split_chain("local:/data/a,b.gguf") == ("local:/data/a,b.gguf",)
    assert split_chain(" ") == ()


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("smollm2-135m-instruct", 135_000_000),
        ("qwen2.5-0.5b-instruct", 500_000_000),
        ("llama3.2:1b", 1_000_000_000),
        ("Qwen2.5-Coder-1.5B-Instruct", 1_500_000_000),
        ("mixtral-8x7b", None),
        ("gpt-6", None),
        ("llama3", None),
    ],
)
def test_weights_in_names(name: str, weights: int | None) -> None:
    assert weights_in_name(name) == weights


def header(parameters: int, *, has_tools: bool = True) -> GgufHeader:
    return GgufHeader(
        architecture="llama",
        name="x",
        parameters=parameters,
        context_tokens=8_192,
        has_tools=has_tools,
        has_chat_template=True,
    )


@pytest.mark.parametrize(
    ("parameters", "has_tools", "expected"),
    [
        (135_000_000, True, ("schema", False, False)),
        (1_500_000_000, True, ("schema", False, True)),
        (8_000_000_000, True, ("native", True, True)),
        (8_000_000_000, False, ("schema", True, True)),
    ],
)
def test_local_models_by_size(parameters: int, has_tools: bool, expected: tuple[str, bool, bool]) -> None:
    profile = local_profile("local:x", header(parameters, has_tools=has_tools), 4_096)
    assert (profile.tool_mode, profile.can_plan, profile.can_write) == expected
    assert profile.price is FREE
    assert profile.is_local


def test_a_server_on_this_machine_is_free_and_another_is_not() -> None:
    here = endpoint_profile(parse_name("openai-compatible:llama3.2:1b@http://localhost:11434/v1"), UNLISTED)
    assert here.price is FREE
    assert (here.tool_mode, here.can_plan) == ("schema", False)
    there = endpoint_profile(parse_name("openai-compatible:big@https://llm.example.com/v1"), UNLISTED)
    assert there.price is None
    assert not there.is_local
    assert is_loopback("http://[::1]:80/v1")
    assert not is_loopback("http://128.0.0.1/")


def test_what_the_user_knows_better() -> None:
    profile = hosted_profile(parse_name("openai:gpt-6"), UNLISTED)
    better = changed(
        profile, {"openai:*": ProfileChange(can_plan=False), "openai:gpt-6": ProfileChange(context_tokens=99)}
    )
    assert (better.can_plan, better.context_tokens, better.can_write) == (False, 99, True)
    assert changed(profile, {"anthropic:*": ProfileChange(can_plan=False)}) == profile


def listed(model: str, provider: str | None = None, base_url: str | None = None):
    pytest.importorskip("genai_prices")
    return look_up(model, provider=provider, base_url=base_url, clock=CLOCK)


def test_prices_are_upper_bounds_and_costs_exact() -> None:
    listing = listed("claude-sonnet-4-5", "anthropic")
    # Base 3 and 15 dollars; above 200,000 input tokens 6 and 22.50; writing to the cache there 7.50.
    assert listing.pricing.price == Price(
        input_usd=Decimal("7.5"), output_usd=Decimal("22.5"), cached_input_usd=Decimal("0.6")
    )
    assert listing.context_tokens == 200_000
    small = Usage(input_tokens=1_000, cached_input_tokens=400, output_tokens=100, model_calls=1)
    cost = listing.pricing.priced(small, cache_write_tokens=100)[0].cost_usd
    assert cost == (500 * Decimal(3) + 400 * Decimal("0.3") + 100 * Decimal("3.75") + 100 * Decimal(15)) / 1_000_000
    large = Usage(input_tokens=200_001, output_tokens=1, model_calls=1)
    assert listing.pricing.priced(large)[0].cost_usd == (200_001 * Decimal(6) + Decimal("22.5")) / 1_000_000


def test_costs_are_never_above_the_bound() -> None:
    for model, provider in (
        ("gpt-6.1-terra", "openai"),
        ("claude-sonnet-5-5", "anthropic"),
        ("gemini-3.8-flash", "google"),
    ):
        pricing = listed(model, provider).pricing
        assert pricing.price is not None
        for tokens in (10, 150_000, 900_000):
            usage = Usage(input_tokens=tokens, output_tokens=500, model_calls=1)
            cost = pricing.priced(usage, cache_write_tokens=tokens // 2)[0].cost_usd
            assert 0 < cost <= pricing.price.cost_usd(input_tokens=tokens, output_tokens=500)


def test_prices_by_url_and_unknown_ones() -> None:
    assert listed("llama-3.1-8b-instant", base_url="https://api.groq.com/openai/v1").pricing.price is not None
    assert listed("no-such-model", "openai").pricing.price is None
    assert listed("llama3", base_url="http://127.0.0.1:11434/v1").pricing.price is None


def test_pricing() -> None:
    usage = Usage(input_tokens=10, output_tokens=10, model_calls=1)
    assert Pricing(None).priced(usage) == (usage, False)
    assert FREE_PRICING.priced(usage) == (usage, True)
    spent, is_known = Pricing(Price(input_usd=Decimal(1), output_usd=Decimal(2))).priced(usage)
    assert is_known
    assert spent == msgspec.structs.replace(usage, cost_usd=Decimal("0.00003"))
