"""Orders: what a worker process is told by others, on a topic of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from collegium.domain.errors import CollegiumError
from collegium.domain.ids import Ids
from collegium.domain.message import Message, control_topic
from collegium.ports import Bus, Clock

DRAIN, LOOK = "drain", "look"
"""``drain``: end what you do and exit. ``look``: somebody has decided on a run that you work on."""
HEAR_S = 5.0
AGAIN_S = 1.0
_MOST = 1_000
_log = logging.getLogger("collegium.orders")


class Orders:
    """Hears the orders to one worker and carries them out, each once.

    The bus may lose an order: nothing but time depends on it. Whoever cancels a run has stored that, and workers look
    for it once a second; whoever drains a worker sees on its card whether it was heard.

    Args:
        worker: Whose orders they are.
        look: Looks whether this worker may still go on with a run.

    Attributes:
        dismissed: Set when the worker is told to end.
    """

    def __init__(self, worker: str, bus: Bus, *, clock: Clock, look: Callable[[str], Awaitable[object]]) -> None:
        self._topic = control_topic(worker)
        self._bus = bus
        self._clock = clock
        self._look = look
        self._done: set[str] = set()
        self._after = 0
        self.dismissed = asyncio.Event()

    async def hear(self) -> None:
        """Hears orders until it is cancelled."""
        is_away = False
        while True:
            try:
                for message in await self._news():
                    if message.id not in self._done:
                        self._done.add(message.id)
                        await self._obey(message)
                is_away = False
                await self._bus.wait((self._topic,), HEAR_S)
            except CollegiumError as error:
                if not is_away:
                    _log.info("orders cannot be heard until the bus is back: %s", error)
                is_away = True
                await self._clock.sleep(AGAIN_S)

    async def _news(self) -> tuple[Message, ...]:
        """What came since the last time; a bus that was emptied meanwhile counts from one again."""
        news = await self._bus.read(self._topic, self._after, _MOST)
        if not news and self._after:
            first = await self._bus.read(self._topic, 0, 1)
            if first and first[0].id not in self._done:
                news = await self._bus.read(self._topic, 0, _MOST)
        if news:
            self._after = news[-1].seq
        return news

    async def _obey(self, message: Message) -> None:
        match message.body:
            case {"order": "drain"}:
                _log.info("this worker was told to end by %s", message.body.get("by", "somebody"))
                self.dismissed.set()
            case {"order": "look", "run": str(run)}:
                await self._look(run)
            case _:
                _log.warning("an order was not understood: %.200r", message.body)


async def order(bus: Bus, worker: str, ids: Ids, *, tenant: str, **body: str) -> None:
    """Sends an order to ``worker``. Raises ``StoreError``, ``TopicFull``."""
    await bus.publish(Message(id=ids.new("msg"), topic=control_topic(worker), tenant=tenant, body=body, priority=0))
