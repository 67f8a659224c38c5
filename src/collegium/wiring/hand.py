"""A hand: a worker process that belongs to the process that started it."""

from __future__ import annotations

from collegium.adapters.leash import Leash
from collegium.config import Settings
from collegium.wiring.patience import Ending, end_within_s
from collegium.wiring.work import work


class Hand:
    """Takes over standard input and output, and the order that comes there; see ``adapters.leash``.

    Attributes:
        name: Which of its parent's workers it is.
    """

    def __init__(self) -> None:
        self._leash = Leash()
        self._order = self._leash.order()
        self.name = self._order.name

    async def work(self, ending: Ending) -> int:
        """Works until it is told to end, or the parent is gone; returns the exit code. Raises as ``wiring.work``."""
        settings = Settings.model_validate(self._order.settings)
        await self._leash.open()
        self._leash.watch(ending.told.set, within_s=end_within_s(settings))
        try:
            await work(settings, ending, model=self._order.model, say=self._leash.say)
        finally:
            self._leash.close()
        return 0
