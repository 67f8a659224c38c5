"""A model that takes all it may: every call costs its upper bound, and the far side keeps the bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal

import msgspec

from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, ToolCall, upper_bound_tokens
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Price, Usage
from collegium.ports import Clock
from collegium.testing.scripted import SCRIPTED_PROFILE
from collegium.tools.definition import tool

PRICED = msgspec.structs.replace(
    SCRIPTED_PROFILE, price=Price(input_usd=Decimal(3), output_usd=Decimal(15)), is_local=False
)


@tool(effect="read", capabilities=["operate"])
async def look() -> str:
    """Look at nothing."""
    return "nothing"


def fan(width: int) -> Plan:
    """A plan of ``width`` tasks that need nothing of each other."""
    names = [f"t{i}" for i in range(width)]
    return Plan(tasks=tuple(Task(id=n, title=n, capability="operate", instructions="Look.") for n in names))


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what the far side charges."""

    at: datetime | None
    usage: Usage


class GreedyModel:
    """Proposes ``looks`` tool calls in each conversation, then answers; each reply is as long as it may be."""

    def __init__(self, looks: int = 3, *, profile: ModelProfile = PRICED, clock: Clock | None = None) -> None:
        self._looks = looks
        self._profile = profile
        self._clock = clock
        self.bills: list[Bill] = []

    @property
    def profile(self) -> ModelProfile:
        """With a price."""
        return self._profile

    @property
    def billed(self) -> Usage:
        """Everything together."""
        return sum((b.usage for b in self.bills), Usage())

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Bills before it answers: a call that is ended half way costs all the same."""
        price = self._profile.price
        given, taken = upper_bound_tokens(request), request.max_output_tokens
        cost = price.cost_usd(input_tokens=given, output_tokens=taken) if price is not None else Decimal(0)
        usage = Usage(input_tokens=given, output_tokens=taken, cost_usd=cost, model_calls=1)
        self.bills.append(Bill(at=self._clock.now() if self._clock else None, usage=usage))
        await asyncio.sleep(0)
        seen = sum(1 for m in request.messages if m.role == "tool")
        if request.tools and seen < self._looks:
            call = ToolCall(id=f"c{seen}", name="look", arguments={})
            return ModelReply(tool_calls=(call,), finish="tool_calls", usage=usage, model="greedy")
        return ModelReply(text="Nothing there.", usage=usage, model="greedy")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Whole at once."""
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""
