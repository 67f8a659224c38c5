"""Prices and context sizes of hosted models, from the ``genai-prices`` table where it is installed.

The table is not in the base install: without it prices are unknown, which is an error only under a money limit.
Prices that the user configured always win.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from collegium.adapters.models.pricing import UNKNOWN_PRICING, Pricing
from collegium.domain.usage import ZERO_USD, Price, Usage
from collegium.ports import Clock

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

_PER_MILLION = Decimal(1_000_000)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What the table knows of a model."""

    pricing: Pricing
    context_tokens: int | None = None


UNLISTED = Listing(pricing=UNKNOWN_PRICING)


def look_up(model: str, *, provider: str | None, base_url: str | None, clock: Clock) -> Listing:
    """What the table knows of ``model`` at ``provider`` (or at whoever serves ``base_url``).

    The first call imports the table, which takes about half a second: call it in a thread.
    """
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return UNLISTED
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider, None if provider else base_url)
    except LookupError:
        return UNLISTED
    if provider is not None and found.id != provider:
        return UNLISTED
    return Listing(pricing=_pricing(info, clock), context_tokens=info.context_window)


def _pricing(info: ModelInfo, clock: Clock) -> Pricing:
    bounds = [_highest(price) for price in _possible(info, clock.now())]
    known = [bound for bound in bounds if bound is not None]
    if not known or len(known) < len(bounds):
        return UNKNOWN_PRICING
    highest = Price(
        input_usd=max(p.input_usd for p in known),
        output_usd=max(p.output_usd for p in known),
        cached_input_usd=max((p.cached_input_usd or p.input_usd) for p in known),
    )
    return Pricing(highest, exact=lambda usage, written: _exact(info.get_prices(clock.now()), usage, written))


def _possible(info: ModelInfo, now: datetime) -> Iterator[ModelPrice]:
    """The standard price of today, and those of other times of the day."""
    yield info.get_prices(now)
    if isinstance(info.prices, list):
        for conditional in info.prices:
            if hasattr(conditional.constraint, "start_time"):
                yield conditional.prices


def _highest(price: ModelPrice) -> Price | None:
    """The highest tier of each rate; None where tokens have no price (models billed by the image or the hour)."""
    if price.input_mtok is None or price.output_mtok is None:
        return None
    fresh = _top(price.input_mtok)
    # Input that is written to the provider's cache costs more than input (Anthropic); hints ask for that.
    written = _top(price.cache_write_mtok) if price.cache_write_mtok is not None else fresh
    cached = _top(price.cache_read_mtok) if price.cache_read_mtok is not None else None
    return Price(input_usd=max(fresh, written), output_usd=_top(price.output_mtok), cached_input_usd=cached)


def _exact(price: ModelPrice, usage: Usage, written: int) -> Decimal:
    """The cost of one call; crossing a tier's start applies its rate to all tokens of the call.

    Source: genai-prices, ``TieredPrices``.
    """
    size = usage.input_tokens
    fresh_rate = _rate(price.input_mtok, size) or ZERO_USD
    cached_rate = _rate(price.cache_read_mtok, size)
    written_rate = _rate(price.cache_write_mtok, size)
    cached = usage.cached_input_tokens
    total = (size - cached - written) * fresh_rate
    total += cached * (fresh_rate if cached_rate is None else cached_rate)
    total += written * (fresh_rate if written_rate is None else written_rate)
    total += usage.output_tokens * (_rate(price.output_mtok, size) or ZERO_USD)
    return total / _PER_MILLION


def _rate(price: Decimal | TieredPrices | None, input_tokens: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    return next((t.price for t in reversed(price.tiers) if input_tokens > t.start), price.base)


def _top(price: Decimal | TieredPrices) -> Decimal:
    if isinstance(price, Decimal):
        return price
    return max([price.base, *(tier.price for tier in price.tiers)])
