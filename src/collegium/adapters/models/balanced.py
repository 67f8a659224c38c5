"""A model behind several keys: each call takes the one with the most room, and the next where one is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

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
        tokens, tried = _tokens(request), frozenset[int]()
        while True:
            try:
                async with self._ring.turn(tokens, without=tried) as turn:
                    tried |= {turn.key}
                    with _Told(turn):
                        reply = await self._models[turn.key].complete(request)
                    turn.used = _used(reply)
                    return reply
            except (ModelRateLimited, ModelAuthError):
                if len(tried) == len(self._models):
                    raise

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        tokens, tried, is_begun = _tokens(request), frozenset[int](), False
        while True:
            try:
                async with self._ring.turn(tokens, without=tried) as turn:
                    tried |= {turn.key}
                    with _Told(turn):
                        async with closing(self._models[turn.key].stream(request)) as items:
                            async for item in items:
                                is_begun = True
                                if isinstance(item, ModelReply):
                                    turn.used = _used(item)
                                yield item
                    return
            except (ModelRateLimited, ModelAuthError):
                if is_begun or len(tried) == len(self._models):
                    raise

    async def aclose(self) -> None:
        """Closes all of them."""
        for model in self._models:
            await model.aclose()


class _Told:
    """Takes note of what an error says about the key of a turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModelRateLimited):
            self._turn.rest_s = REST_S if error.retry_after_s is None else error.retry_after_s
        elif isinstance(error, ModelAuthError):
            self._turn.is_refused = True
        if isinstance(error, ModelError):
            self._turn.used = 0.0  # refused, or never arrived: what was reserved is free again


def _tokens(request: ModelRequest) -> float:
    """About as many tokens as the provider will count when it gets the request: input, and all that may come back."""
    told = sum(estimate_tokens(m.text) for m in request.messages)
    offered = sum(estimate_tokens(t.description + str(t.parameters)) for t in request.tools)
    return float(told + offered + request.max_output_tokens)


def _used(reply: ModelReply) -> float:
    return float(reply.usage.input_tokens + reply.usage.output_tokens)
