"""Limits inside one attempt: reserved before the call from an upper bound, settled after it with what it took.

The attempt's allotment was given by a decision and is durable; inside it a reservation needs no write of its own
(``docs/explanation/journal.md``, section 6), because an attempt that ends without a word is charged its whole
allotment.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from collegium.domain.chat import ModelProfile, ModelRequest, upper_bound_tokens, upper_bound_usd
from collegium.domain.errors import LimitReached
from collegium.domain.usage import ZERO_USD, Allotment, Usage

SOFT_SHARE = 0.8
"""At this share of an allotment an agent is told to finish with what it has."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may take at most."""

    tokens: int
    cost_usd: Decimal


class AttemptLimits:
    """What one attempt may still spend. Parallel calls see each other's reservations.

    Args:
        allotment: The attempt's part of the run's limits; None in a field is no cap.
    """

    def __init__(self, allotment: Allotment) -> None:
        self._allotment = allotment
        self._spent = Usage()
        self._reserved_tokens = 0
        self._reserved_usd = ZERO_USD

    @property
    def spent(self) -> Usage:
        """What settled calls took."""
        return self._spent

    @property
    def is_nearly_spent(self) -> bool:
        """Whether the soft share of tokens or money is gone."""
        tokens, usd = self._allotment.tokens, self._allotment.cost_usd
        return (tokens is not None and self._spent.tokens >= SOFT_SHARE * tokens) or (
            usd is not None and self._spent.cost_usd >= Decimal(str(SOFT_SHARE)) * usd
        )

    def fit(self, request: ModelRequest, profile: ModelProfile) -> ModelRequest:
        """``request``, its output cap lowered to what is left where that still leaves room for a reply."""
        if self._allotment.tokens is None:
            return request
        room = self._allotment.tokens - self._spent.tokens - self._reserved_tokens - upper_bound_tokens(request)
        if 64 <= room < request.max_output_tokens:
            return msgspec.structs.replace(request, max_output_tokens=room)
        return request

    def reserve(self, request: ModelRequest, profile: ModelProfile) -> Reservation:
        """Takes the upper bound of ``request`` out of what is left.

        Raises LimitReached when it does not fit, naming the cap, the need and the rest; also under a money limit when
        nobody
        knows the model's price.
        """
        tokens = upper_bound_tokens(request) + request.max_output_tokens
        cost = ZERO_USD
        if self._allotment.tokens is not None:
            left = self._allotment.tokens - self._spent.tokens - self._reserved_tokens
            if tokens > left:
                raise LimitReached(
                    f"the next call to {profile.name} may take up to {tokens:,} tokens and {max(left, 0):,} of the "
                    f"task's {self._allotment.tokens:,} are left: raise --limit-tokens",
                    limit="tokens",
                    need=tokens,
                    left=left,
                )
        if self._allotment.cost_usd is not None:
            if profile.price is None:
                raise LimitReached(
                    f"the price of {profile.name} is not known, so that a limit in US dollars cannot hold: "
                    "configure its price or run without --limit-usd",
                    limit="cost_usd",
                )
            cost = upper_bound_usd(request, profile.price)
            rest = self._allotment.cost_usd - self._spent.cost_usd - self._reserved_usd
            if cost > rest:
                raise LimitReached(
                    f"the next call to {profile.name} may cost up to ${cost:.6f} and ${max(rest, ZERO_USD):.6f} of the "
                    f"task's ${self._allotment.cost_usd:.6f} are left: raise --limit-usd",
                    limit="cost_usd",
                    need=str(cost),
                    left=str(rest),
                )
        self._reserved_tokens += tokens
        self._reserved_usd += cost
        return Reservation(tokens=tokens, cost_usd=cost)

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """Gives the reservation back and charges ``usage``.

        None says that nobody knows what it took: under a limit it is charged in full. Without one nothing depends on
        it, and a made-up number would only mislead.
        """
        self._reserved_tokens -= reservation.tokens
        self._reserved_usd -= reservation.cost_usd
        if usage is None:
            has_tokens = self._allotment.tokens is not None
            usage = Usage(input_tokens=reservation.tokens if has_tokens else 0, cost_usd=reservation.cost_usd)
        self._spent += usage

    def charge(self, usage: Usage) -> None:
        """Adds something that needed no reservation (a finished step of an earlier look, a tool call)."""
        self._spent += usage
