"""A chain of models: where the first is not to be had, the next one answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from collegium.adapters.models.breaker import Breaker, BreakerPolicy
from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import ModelError, ModelRequestError, ModelUnavailable
from collegium.domain.usage import Price
from collegium.ports import Clock, Model

_TOOL_MODES = ("none", "schema", "native")


class FallbackModel:
    """The first model of ``models`` that answers, each behind a circuit breaker.

    Any error but a refused request (``ModelRequestError``, ``ContextTooLong``: another model would get the same) goes
    on to the next model; when all have failed the last error is raised. A stream that has begun is not begun again
    elsewhere. The profile promises only what every model of the chain can do, at the highest price of them.
    """

    def __init__(self, models: Sequence[Model], *, clock: Clock, policy: BreakerPolicy | None = None) -> None:
        if not models:
            raise ValueError("a chain needs at least one model")
        self._models = tuple(models)
        self._breakers = [Breaker(clock=clock, policy=policy or BreakerPolicy()) for _ in models]
        self._profile = weakest(tuple(model.profile for model in models))

    @property
    def profile(self) -> ModelProfile:
        """What every model of the chain can do."""
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        last: ModelError | None = None
        for model, breaker in zip(self._models, self._breakers, strict=True):
            if not breaker.enter():
                continue
            try:
                reply = await model.complete(request)
            except ModelError as error:
                _judge(breaker, error)
                last = error
            except BaseException:
                breaker.left()
                raise
            else:
                breaker.succeeded()
                return reply
        raise last or self._all_open()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        last: ModelError | None = None
        for model, breaker in zip(self._models, self._breakers, strict=True):
            if not breaker.enter():
                continue
            is_begun = False
            try:
                async with closing(model.stream(request)) as items:
                    async for item in items:
                        is_begun = True
                        yield item
            except ModelError as error:
                _judge(breaker, error)
                if is_begun:
                    raise
                last = error
            except BaseException:
                breaker.left()
                raise
            else:
                breaker.succeeded()
                return
        raise last or self._all_open()

    async def aclose(self) -> None:
        """Closes every model of the chain."""
        for model in self._models:
            await model.aclose()

    def _all_open(self) -> ModelUnavailable:
        wait_s = min(breaker.wait_s for breaker in self._breakers)
        return ModelUnavailable(
            f"every model of {self._profile.name} failed too often in a row; the next try is in {wait_s:.0f} s",
            retry_after_s=wait_s,
            model=self._profile.name,
        )


def weakest(profiles: Sequence[ModelProfile]) -> ModelProfile:
    """What all of ``profiles`` can do; unknown if the price of one is."""
    prices = [p.price for p in profiles]
    return msgspec.structs.replace(
        profiles[0],
        name=",".join(p.name for p in profiles),
        tool_mode=min((p.tool_mode for p in profiles), key=_TOOL_MODES.index),
        can_plan=all(p.can_plan for p in profiles),
        can_write=all(p.can_write for p in profiles),
        context_tokens=min(p.context_tokens for p in profiles),
        max_output_tokens=min(p.max_output_tokens for p in profiles),
        price=_highest([price for price in prices if price is not None]) if None not in prices else None,
        is_local=all(p.is_local for p in profiles),
    )


def _highest(prices: Sequence[Price]) -> Price:
    if all(price == prices[0] for price in prices):
        return prices[0]
    return Price(
        input_usd=max(p.input_usd for p in prices),
        output_usd=max(p.output_usd for p in prices),
        cached_input_usd=max(p.input_usd if p.cached_input_usd is None else p.cached_input_usd for p in prices),
    )


def _judge(breaker: Breaker, error: ModelError) -> None:
    """Counts ``error`` for the circuit; one that says the request is at fault is raised again."""
    if isinstance(error, ModelRequestError):
        breaker.succeeded()  # the server is there and answers
        raise error
    breaker.failed()
