"""A machine: the fate of one simulated process. It can die, stand still, and be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from tests.simulation.failpoints import Failpoints
from tests.simulation.faults import Faults
from tests.simulation.loop import Owner, VirtualLoop


class Died(asyncio.CancelledError):
    """Raised in every call of a dead process: nothing it does takes effect any more."""


class Machine(Owner):
    """What all ports of one process share.

    Args:
        name: For traces.
        on_death: Told once, at the moment of death, before any other task runs.
    """

    def __init__(
        self,
        name: str,
        *,
        loop: VirtualLoop,
        faults: Faults,
        failpoints: Failpoints,
        on_death: Callable[[Machine], None],
    ) -> None:
        super().__init__()
        self.name = name
        self.loop = loop
        self.faults = faults
        self.is_alive = True
        self.was_paused = False
        self._failpoints = failpoints
        self._on_death = on_death
        self._paused_until_s = 0.0

    @property
    def rng(self) -> Random:
        """The world's randomness for faults."""
        return self.faults.rng

    @property
    def is_paused(self) -> bool:
        """Whether it stands still now."""
        return self.loop.time() < self._paused_until_s

    def kill(self) -> None:
        """Ends the process: its tasks end, its ports do nothing more."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._on_death(self)
        for task in list(self.tasks):
            task.cancel()

    def pause(self, seconds: float) -> None:
        """Lets the process stand still, as a stopped or starved one does; its timers fire late."""
        self.was_paused = True
        self._paused_until_s = max(self._paused_until_s, self.loop.time() + seconds)

    def resume(self) -> None:
        """Ends a pause."""
        self._paused_until_s = 0.0

    def check(self) -> None:
        """Raises ``Died`` in a dead process."""
        if not self.is_alive:
            raise Died(self.name)

    def pass_by(self, name: str) -> None:
        """A failpoint in a call that cannot wait. Raises ``Died`` when the process ends here."""
        self.check()
        self._failpoints.reach(name, self.kill)
        if self.faults.strikes("crash"):
            self.kill()
        self.check()

    async def reach(self, name: str) -> None:
        """A failpoint in a call that may take its time: the process may die here, stand still, or be slow."""
        self.pass_by(name)
        if self.faults.strikes("pause"):
            self.pause(self.faults.pause_s())
        if self.faults.strikes("delay"):
            await asyncio.sleep(self.faults.delay_s())
        await self.awake()

    async def awake(self) -> None:
        """Returns when the process does not stand still. Raises ``Died`` in a dead one."""
        self.check()
        while self.is_paused:
            await asyncio.sleep(min(0.5, self._paused_until_s - self.loop.time()))
            self.check()
