"""What calls consume, what they cost, and what they may consume at most."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Any

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

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens - other.input_tokens,
            cached_input_tokens=self.cached_input_tokens - other.cached_input_tokens,
            output_tokens=self.output_tokens - other.output_tokens,
            cost_usd=self.cost_usd - other.cost_usd,
            model_calls=self.model_calls - other.model_calls,
            tool_calls=self.tool_calls - other.tool_calls,
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
    """Caps of a run; None is no cap. They hold before a call is made, never after.

    Attributes:
        tokens: Input and output together; ``input_tokens`` and ``output_tokens`` cap each by itself.
        tasks: Tasks of a plan.
        parallel: Tasks that are worked on at the same time.
    """

    cost_usd: Decimal | None = None
    tokens: int | None = None
    deadline_s: float | None = None
    steps_per_task: int = 24
    tasks: int = 64
    input_tokens: int | None = None
    output_tokens: int | None = None
    tool_calls: int | None = None
    parallel: int | None = None


class Allotment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of a run's limits that one attempt may draw on; None is no cap."""

    cost_usd: Decimal | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tool_calls: int | None = None

    @property
    def is_capped(self) -> bool:
        """Whether there is any cap."""
        return self != _UNCAPPED

    def of(self, usage: Usage) -> Allotment:
        """What ``usage`` takes of each cap that there is; None where there is none."""
        return Allotment(**{k: None if getattr(self, k) is None else getattr(usage, k) for k in CAPS})

    def left(self, taken: Allotment) -> Allotment:
        """What is left of each cap after ``taken``, never below zero."""
        return Allotment(**{k: _rest(getattr(self, k), getattr(taken, k)) for k in CAPS})

    def least(self, other: Allotment) -> Allotment:
        """The smaller cap of both, each by itself."""
        return Allotment(**{k: _least(getattr(self, k), getattr(other, k)) for k in CAPS})

    def plus(self, other: Allotment) -> Allotment:
        """Both together, of the caps that either has."""
        return Allotment(**{k: _sum(getattr(self, k), getattr(other, k)) for k in CAPS})

    def share(self, parts: int, place: int) -> Allotment:
        """The part at ``place`` (from 0) of ``parts`` even ones, in whole units that add up to the whole.

        What does not divide goes to the first ones, a unit each.
        """
        return Allotment(**{k: _part(getattr(self, k), parts, place) for k in CAPS})


CAPS = ("cost_usd", "tokens", "input_tokens", "output_tokens", "tool_calls")
"""The fields of an ``Allotment``; ``Usage`` and ``Limits`` have the same names."""
_UNCAPPED = Allotment()
_MICRO_USD = Decimal("0.000001")


def _rest(cap: Any, taken: Any) -> Any:
    return None if cap is None else max(cap - (taken or 0), type(cap)(0))


def _least(one: Any, other: Any) -> Any:
    return one if other is None else other if one is None else min(one, other)


def _sum(one: Any, other: Any) -> Any:
    return one if other is None else other if one is None else one + other


def _part(cap: Any, parts: int, place: int) -> Any:
    if isinstance(cap, Decimal):
        return _part(int((cap / _MICRO_USD).to_integral_value(ROUND_FLOOR)), parts, place) * _MICRO_USD
    return None if cap is None else cap // parts + (place < cap % parts)
