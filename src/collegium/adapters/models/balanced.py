"""A model behind several keys: each call takes the one with the most room, and the next where one is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from collegium.adapters.models.key_ring import REST_S, KeyRing, Turn
from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, estimate_tokens
from collegium.domain.errors import ModelAuthError, ModelError, ModelRateLimited
from collegium.ports import Model


class BalancedModel:
    """The same model once for each key of ``ring``, in its order.

    A key that is told to slow down rests, and one that is refused comes last; the call goes on at once with the next
    key that was not tried yet. A stream that has begun is not begun again.
    """

    def __init__(self, models: Sequence[Model], ring: KeyRing) -> None:
        if not models or len(models) != len(ring):
            raise ValueError("a balanced model needs one model for each key")
        self._models = tuple(models)
        self._ring = ring

    @property
    def profile(self) -> ModelProfile:
        """That of the model."""
        return self._models[0].profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        tokens, failed = _tokens(request), dict[int, ModelError]()
        while True:
            async with self._turn(tokens, failed) as turn:
                try:
                    reply = await self._models[turn.key].complete(request)
                except ModelError as error:
                    self._note(turn, error, failed)
                else:
                    turn.used = _used(reply)
                    return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        tokens, failed, is_begun = _tokens(request), dict[int, ModelError](), False
        while True:
            async with self._turn(tokens, failed) as turn:
                try:
                    async with closing(self._models[turn.key].stream(request)) as items:
                        async for item in items:
                            is_begun = True
                            if isinstance(item, ModelReply):
                                turn.used = _used(item)
                            yield item
                    return
                except ModelError as error:
                    self._note(turn, error, failed)
                    if is_begun:
                        raise

    async def aclose(self) -> None:
        """Closes all of them."""
        for model in self._models:
            await model.aclose()

    @asynccontextmanager
    async def _turn(self, tokens: float, failed: Mapping[int, ModelError]) -> AsyncIterator[Turn]:
        """The next turn; raises what failed before, where no other key is free at once."""
        async with AsyncExitStack() as stack:
            try:
                turn = await stack.enter_async_context(self._ring.turn(tokens, without=frozenset(failed)))
            except ModelRateLimited as error:
                raise next(iter(failed.values()), error) from None
            yield turn

    def _note(self, turn: Turn, error: ModelError, failed: dict[int, ModelError]) -> None:
        """Takes note of what ``error`` says about the key; raises it where another one will not help."""
        turn.used = 0.0  # refused, or never arrived: what was reserved is free again
        if isinstance(error, ModelRateLimited):
            turn.rest_s = REST_S if error.retry_after_s is None else error.retry_after_s
        elif isinstance(error, ModelAuthError):
            turn.is_refused = True
        else:
            raise error
        failed[turn.key] = error
        if len(failed) == len(self._models):
            raise error


def _tokens(request: ModelRequest) -> float:
    """About as many tokens as the provider will count when it gets the request: input, and all that may come back."""
    told = sum(estimate_tokens(m.text) for m in request.messages)
    offered = sum(estimate_tokens(t.description + str(t.parameters)) for t in request.tools)
    return float(told + offered + request.max_output_tokens)


def _used(reply: ModelReply) -> float:
    return float(reply.usage.input_tokens + reply.usage.output_tokens)
