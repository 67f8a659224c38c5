"""Limits inside one attempt: reserved before the call from an upper bound, settled after it with what it took.

The attempt's allotment was given by a decision and is durable; inside it a reservation needs no write of its own
(``docs/explanation/journal.md``, section 6), because an attempt that ends without a word is charged its whole
allotment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import msgspec

from collegium.domain.chat import ModelProfile, ModelRequest, upper_bound_tokens
from collegium.domain.errors import LimitReached
from collegium.domain.usage import CAPS, Allotment, Usage

SOFT_SHARE = 0.8
"""At this share of an allotment, or of the time, an agent is told to finish with what it has."""
MIN_REPLY_TOKENS = 64
"""An output cap is never lowered below this: a reply of fewer tokens says nothing."""
ADVICE: Mapping[str, str] = {
    "cost_usd": "raise --limit-usd",
    "tokens": "raise --limit-tokens",
    "input_tokens": "raise limits.run.input_tokens",
    "output_tokens": "raise limits.run.output_tokens",
    "tool_calls": "raise --limit-tool-calls",
}
"""What to do about each cap when nobody says better."""
_NAMES = {
    "cost_usd": "US dollars",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "tool_calls": "tool calls",
}
Reservation = Usage
"""What one call may take at most."""


def _never() -> bool:
    return False


class AttemptLimits:
    """What one attempt may still spend. Parallel calls see each other's reservations.

    Args:
        allotment: The attempt's part of the run's limits; None in a field is no cap.
        advice: What a person can do about a cap, where it is another one than the run's own.
        is_late: Whether most of the time is over.
    """

    def __init__(
        self,
        allotment: Allotment,
        *,
        advice: Mapping[str, str] | None = None,
        is_late: Callable[[], bool] = _never,
    ) -> None:
        self._allotment = allotment
        self._advice = {**ADVICE, **(advice or {})}
        self._is_late = is_late
        self._spent = Usage()
        self._reserved = Usage()
        self._refused: LimitReached | None = None

    @property
    def allotment(self) -> Allotment:
        """The caps."""
        return self._allotment

    @property
    def spent(self) -> Usage:
        """What settled calls took."""
        return self._spent

    @property
    def refused(self) -> LimitReached | None:
        """Why a tool was not called, if that has happened: the agent went on without it."""
        return self._refused

    @property
    def is_nearly_spent(self) -> bool:
        """Whether the soft share of any cap, or of the time, is gone."""
        if not self._allotment.is_capped:
            return self._is_late()
        spent = self._allotment.of(self._spent)
        share = Decimal(str(SOFT_SHARE))
        return self._is_late() or any(
            (cap := getattr(self._allotment, name)) is not None and getattr(spent, name) >= share * cap for name in CAPS
        )

    def fit(self, request: ModelRequest, profile: ModelProfile) -> ModelRequest:
        """``request``, its output cap lowered to what is left where that still leaves room for a reply."""
        if not self._allotment.is_capped:
            return request
        left, need = self._left(), upper_bound_tokens(request)
        rooms = [request.max_output_tokens]
        if left.tokens is not None:
            rooms.append(left.tokens - need)
        if left.output_tokens is not None:
            rooms.append(left.output_tokens)
        if left.cost_usd is not None and profile.price is not None and profile.price.output_usd > 0:
            rest = left.cost_usd - profile.price.cost_usd(input_tokens=need, output_tokens=0)
            rooms.append(int((rest * 1_000_000 / profile.price.output_usd).to_integral_value(ROUND_FLOOR)))
        room = min(rooms)
        if MIN_REPLY_TOKENS <= room < request.max_output_tokens:
            return msgspec.structs.replace(request, max_output_tokens=room)
        return request

    def reserve(self, request: ModelRequest, profile: ModelProfile) -> Reservation:
        """Takes the upper bound of ``request`` out of what is left.

        Raises LimitReached when it does not fit, naming the cap, the need and the rest; also under a money limit when
        nobody knows the model's price.
        """
        if not self._allotment.is_capped:
            return Usage()  # nothing depends on it
        input_tokens, output_tokens = upper_bound_tokens(request), request.max_output_tokens
        need = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        if self._allotment.cost_usd is not None:
            if profile.price is None:
                raise LimitReached(
                    f"the price of {profile.name} is not known, so that a limit in US dollars cannot hold: "
                    "configure its price or run without --limit-usd",
                    limit="price",
                )
            cost = profile.price.cost_usd(input_tokens=input_tokens, output_tokens=output_tokens)
            need = msgspec.structs.replace(need, cost_usd=cost)
        self._require(need, f"the next call to {profile.name}")
        self._reserved += need
        return need

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """Gives the reservation back and charges ``usage``.

        None says that nobody knows what it took: under a limit it is charged in full. Without one nothing depends on
        it, and a made-up number would only mislead.
        """
        self._reserved -= reservation
        if usage is None:
            usage = reservation if self._allotment.is_capped else Usage()
        self._spent += usage

    def take_call(self, tool: str) -> None:
        """Counts a call of ``tool`` that is about to be made. Raises LimitReached when it is one too many."""
        cap = self._allotment.tool_calls
        if cap is not None and self._spent.tool_calls >= cap:
            error = LimitReached(
                f"{tool} was not called, the task's {cap:,} calls of tools are made: {self._advice['tool_calls']}",
                limit="tool_calls",
                need="1",
                left="0",
            )
            self._refused = self._refused or error
            raise error
        self._spent += Usage(tool_calls=1)

    def charge(self, usage: Usage) -> None:
        """Adds something that needed no reservation (a finished step of an earlier look)."""
        self._spent += usage

    def _left(self) -> Allotment:
        return self._allotment.left(self._allotment.of(self._spent + self._reserved))

    def _require(self, need: Usage, what: str) -> None:
        """Raises LimitReached, naming the first cap that ``need`` does not fit into."""
        left, needed = self._left(), self._allotment.of(need)
        for name in CAPS:
            cap, rest, wanted = getattr(self._allotment, name), getattr(left, name), getattr(needed, name)
            if cap is not None and wanted > rest:
                raise LimitReached(
                    f"{what} may take up to {amount(name, wanted)} and {amount(name, rest, is_bare=True)} of the "
                    f"task's {amount(name, cap, is_bare=True)} are left: {self._advice[name]}",
                    limit=name,
                    need=str(wanted),
                    left=str(rest),
                )


def amount(cap: str, value: Any, *, is_bare: bool = False) -> str:
    """``value`` of the cap with this name, for a person; ``is_bare`` leaves the unit out where it was said before."""
    if cap == "cost_usd":
        return f"${value:.6f}" if value < 1 else f"${value:.2f}"
    return f"{value:,}" if is_bare else f"{value:,} {_NAMES[cap]}"
