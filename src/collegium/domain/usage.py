"""What calls consume, what they cost, and what they may consume at most."""

from __future__ import annotations

from decimal import Decimal

import msgspec

ZERO_USD = Decimal(0)
_PER_MILLION = Decimal(1_000_000)


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Tokens, money and calls. ``input_tokens`` includes the cached ones. Money is exact (decimal US dollars)."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = ZERO_USD
    model_calls: int = 0
    tool_calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            model_calls=self.model_calls + other.model_calls,
            tool_calls=self.tool_calls + other.tool_calls,
        )

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens; of a provider's tiers the highest: a reservation has to be an upper bound."""

    input_usd: Decimal
    output_usd: Decimal
    cached_input_usd: Decimal | None = None

    def cost_usd(self, *, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> Decimal:
        """Exact cost of one call; ``input_tokens`` includes ``cached_input_tokens``."""
        cached = self.input_usd if self.cached_input_usd is None else self.cached_input_usd
        fresh = input_tokens - cached_input_tokens
        return (fresh * self.input_usd + cached_input_tokens * cached + output_tokens * self.output_usd) / _PER_MILLION


FREE = Price(input_usd=ZERO_USD, output_usd=ZERO_USD)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Caps of a run; None is no cap. They hold before a call is made, never after."""

    cost_usd: Decimal | None = None
    tokens: int | None = None
    deadline_s: float | None = None
    steps_per_task: int = 24
    tasks: int = 64


class Allotment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of a run's limits that one attempt may draw on; None is no cap."""

    cost_usd: Decimal | None = None
    tokens: int | None = None
