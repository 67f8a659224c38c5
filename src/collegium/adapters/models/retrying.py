"""A model that is asked again when an error says that this may help."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec

from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import ModelError, ModelReplyError
from collegium.ports import Clock, Model


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how fast.

    Attributes:
        attempts: In all, the first included.
        base_s: Upper end of the first wait; it doubles with every attempt.
        max_s: No own wait is longer. A longer ``Retry-After`` is kept to.
        total_s: No attempt begins later than this after the first one.
    """

    attempts: int = 4
    base_s: float = 0.5
    max_s: float = 20.0
    total_s: float = 120.0


class RetryingModel:
    """``inner``, asked again after errors that are ``retryable``, with exponential waits and full jitter.

    A reply that makes no sense is asked for again only once: a model at temperature 0 says the same again. A stream is
    begun again only while nothing of it was handed out. A raised error has the number of ``attempts`` in its fields.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
    """

    def __init__(
        self, inner: Model, *, clock: Clock, random: Callable[[], float], policy: RetryPolicy | None = None
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._random = random
        self._policy = policy or RetryPolicy()

    @property
    def profile(self) -> ModelProfile:
        """That of ``inner``."""
        return self._inner.profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        began = self._clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._inner.complete(request)
            except ModelError as error:
                await self._wait(error, attempt, began)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        began = self._clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            is_begun = False
            try:
                async with closing(self._inner.stream(request)) as items:
                    async for item in items:
                        is_begun = True
                        yield item
                return
            except ModelError as error:
                if is_begun:
                    raise
                await self._wait(error, attempt, began)

    async def aclose(self) -> None:
        """Closes ``inner``."""
        await self._inner.aclose()

    async def _wait(self, error: ModelError, attempt: int, began: float) -> None:
        """Waits before the next attempt, or raises ``error`` where there is to be none."""
        policy = self._policy
        error.fields["attempts"] = attempt
        most = min(policy.attempts, 2) if isinstance(error, ModelReplyError) else policy.attempts
        if not error.retryable or attempt >= most:
            raise error
        wait_s = self._random() * min(policy.max_s, policy.base_s * 2 ** (attempt - 1))
        asked = error.fields.get("retry_after_s")
        if isinstance(asked, int | float):
            # Never earlier than asked for; the jitter keeps a fleet from coming back all at once.
            wait_s += asked
        if self._clock.monotonic() - began + wait_s > policy.total_s:
            raise error
        await self._clock.sleep(wait_s)
