"""What one model's calls cost: an upper bound before a call, the exact amount after it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from collegium.domain.usage import FREE, Price, Usage

ExactCost = Callable[[Usage, int], Decimal]
"""From a call's usage, and how many of its input tokens were written to the provider's cache, to its cost."""


class Pricing:
    """The price of one model.

    Args:
        price: For a million tokens, the highest tier; None where nobody knows it.
        exact: Computes the cost of a call where tiers, cache writes or the time of day make it differ from ``price``.
    """

    def __init__(self, price: Price | None, *, exact: ExactCost | None = None) -> None:
        self.price = price
        self._exact = exact

    def priced(self, usage: Usage, *, cache_write_tokens: int = 0) -> tuple[Usage, bool]:
        """``usage`` with its cost, and whether the cost is known (where not, it is left at zero)."""
        if self.price is None:
            return usage, False
        if self.price is FREE:
            return usage, True
        if self._exact is not None:
            cost = self._exact(usage, cache_write_tokens)
        else:
            cost = self.price.cost_usd(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_input_tokens=usage.cached_input_tokens,
            )
        return msgspec.structs.replace(usage, cost_usd=cost), True


UNKNOWN_PRICING = Pricing(None)
FREE_PRICING = Pricing(FREE)
