"""A run in the hands of whoever submitted it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from collegium.domain.event import Event
from collegium.domain.report import RunReport
from collegium.domain.run import RunState


class Runs(Protocol):
    """Where runs are looked at, waited for and stopped: ``Collegium``."""

    def events(self, run: str, *, after: int, is_following: bool, tenant: str) -> AsyncIterator[Event]:
        """Events of a run in order."""
        ...

    async def state(self, run: str, *, tenant: str) -> RunState:
        """What is known of it now."""
        ...

    async def result(self, run: str, *, tenant: str) -> RunReport:
        """Its report."""
        ...

    async def cancel(self, run: str, *, reason: str, tenant: str) -> None:
        """Asks for its end."""
        ...


class Run:
    """A run that was submitted: look at it, wait for it, stop it.

    ``was_interrupted``: it was there already, and goes on.
    """

    def __init__(self, app: Runs, run: str, tenant: str, *, was_interrupted: bool = False) -> None:
        self._app = app
        self._tenant = tenant
        self.id = run
        self.was_interrupted = was_interrupted

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events with ``seq > after``, those to come included, until it ends or is parked for a person."""
        async for event in self._app.events(self.id, after=after, is_following=True, tenant=self._tenant):
            yield event

    async def state(self) -> RunState:
        """What is known of it now."""
        return await self._app.state(self.id, tenant=self._tenant)

    async def result(self) -> RunReport:
        """Its report, once it has ended or waits for a person."""
        return await self._app.result(self.id, tenant=self._tenant)

    async def cancel(self, reason: str = "") -> None:
        """Asks for its end; ``result`` then waits for it."""
        await self._app.cancel(self.id, reason=reason, tenant=self._tenant)
