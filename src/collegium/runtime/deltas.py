"""Deltas: what models are saying, piece by piece, for those who look on. On the bus only; nothing depends on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Final, Protocol

from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import CollegiumError, ModelError
from collegium.domain.message import Message
from collegium.ports import Bus, Clock, Model
from collegium.runtime.wishes import Wishes

GATHER_S: Final = 0.1
KEEP: Final = timedelta(seconds=30)
_log = logging.getLogger("collegium.deltas")


class Asking(Protocol):
    """On whose behalf a model is asked: an attempt."""

    @property
    def run(self) -> str:
        """Its run."""
        ...

    @property
    def tenant(self) -> str:
        """Whose run it is."""
        ...

    @property
    def number(self) -> int:
        """Its number."""
        ...


def deltas_topic(run: str) -> str:
    """The topic on which pieces of what models say in a run are published."""
    return f"runs.{run}.deltas"


class Deltas:
    """Publishes what models say in runs that somebody looks at; in all others models are asked as ever.

    A reply that is being written when the first one comes to look is not told: the next one is.

    Args:
        bus: Where pieces are published.
        clock: Says how long they are kept.
    """

    def __init__(self, bus: Bus, *, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._wishes: Wishes | None = None

    def start(self, wishes: Wishes) -> None:
        """From now on tells what somebody wishes to hear."""
        self._wishes = wishes

    def through(self, model: Model, asking: Asking, task: str) -> Model:
        """``model``, in such a way that those who look on hear what it says."""
        return Told(model, self, asking, task) if self._wishes is not None else model

    def is_wanted(self, run: str) -> bool:
        """Whether anybody looks at ``run``, as far as is known; nobody is waited for to find out."""
        return self._wishes is not None and self._wishes.has(run)

    async def publish(self, asking: Asking, task: str, call: int, at: int, text: str) -> None:
        """Tells those who look on; never fails."""
        message = Message(
            id=f"{asking.run}/{task}/{asking.number}/{call}/{at}",
            topic=deltas_topic(asking.run),
            tenant=asking.tenant,
            body={"task": task, "attempt": asking.number, "call": call, "at": at, "text": text},
            expires_at=self._clock.now() + KEEP,
        )
        try:
            await self._bus.publish(message)
        except (CollegiumError, OSError) as error:
            _log.info("nobody is told what a model says: %s", error)


class Told:
    """A model whose replies are told while they are written, where somebody looks on.

    What it returns is what ``inner`` returns. A stream that breaks off is asked for as a whole.

    Args:
        inner: The model.
        deltas: Where the pieces go.
        asking: On whose behalf.
        task: Of which task.
    """

    def __init__(self, inner: Model, deltas: Deltas, asking: Asking, task: str) -> None:
        self._inner = inner
        self._deltas = deltas
        self._asking = asking
        self._task = task
        self._calls = 0

    @property
    def profile(self) -> ModelProfile:
        """That of ``inner``."""
        return self._inner.profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        self._calls += 1
        if not self._deltas.is_wanted(self._asking.run):
            return await self._inner.complete(request)
        telling = _Telling(self._deltas, self._asking, self._task, self._calls)
        items = self._inner.stream(request)
        reply: ModelReply | None = None
        try:
            async for item in items:
                if isinstance(item, ModelReply):
                    reply = item
                else:
                    telling.add(item.text)
        except ModelError as error:
            if not error.retryable or not telling.is_begun:
                raise
        finally:
            await telling.end()
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        return reply or await self._inner.complete(request)

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        return self._inner.stream(request)

    async def aclose(self) -> None:
        """Closes ``inner``."""
        await self._inner.aclose()


class _Telling:
    """One reply, told in pieces of ``GATHER_S``; the model is not waited on for it."""

    def __init__(self, deltas: Deltas, asking: Asking, task: str, call: int) -> None:
        self._deltas = deltas
        self._place = (asking, task, call)
        self._pieces: list[str] = []
        self._at = 0
        self._task: asyncio.Task[None] | None = None
        self.is_begun = False

    def add(self, text: str) -> None:
        """The model has said this."""
        self.is_begun = True
        self._pieces.append(text)
        if self._task is None:
            self._task = asyncio.create_task(self._tell())

    async def end(self) -> None:
        """Tells nothing more: the durable event has it all."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            if self._pieces:
                text = "".join(self._pieces)
                self._pieces.clear()
                asking, task, call = self._place
                await self._deltas.publish(asking, task, call, self._at, text)
                self._at += len(text)
            await asyncio.sleep(GATHER_S)
