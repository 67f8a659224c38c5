"""What a principal may look on at while it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator

from collegium.app import Collegium
from collegium.domain.errors import NotFound
from collegium.domain.event import Event
from collegium.domain.head import FINISHED, HeadQuery
from collegium.domain.principal import Principal
from collegium.server.live.change import Change, RunChange

LOOK_S = 0.25


class LiveAccess:
    """The runs, lists and topics of the principal's tenant, as they change."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal

    async def follow(self, run: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Events of a run with ``seq > after`` in order, each once: those that are there, then those that come.

        It ends when the run has ended and all is delivered; a run that waits for a person is waited for. Raises
        ``NotFound`` for an unknown run and for another tenant's, ``NotAllowed``.
        """
        self._principal.require("runs:read")
        while True:
            head = await self._app.stores.journal.head(run)
            if head is None or head.tenant != self._principal.tenant:
                raise NotFound(f"there is no run {run}", run=run)
            events = await self._app.stores.journal.read(run, after)
            for event in events:
                yield event
                after = event.seq
            if not events and head.status in FINISHED and after >= head.seq:
                return
            if not events:
                await self._app.scheduler.changed(run, LOOK_S)

    async def changes(self, *topics: str) -> AsyncIterator[Change]:
        """Changes of lists and topics from now on, the latest state of each thing; first what is there now.

        Topics: ``runs``, ``approvals``, ``workers`` (lists), ``runs.<id>.board``, ``runs.<id>.deltas``,
        ``agents.<name>.inbox`` and other topics that may be read (messages, of this tenant alone, from now on).
        Whoever takes them slowly is told the latest state of each thing only. Goes on until it is closed.
        """
        self._principal.require("runs:read")
        known: dict[str, RunChange] = {}
        while True:
            query = HeadQuery(tenant=self._principal.tenant, limit=200, may_lag=True)
            for head in await self._app.stores.journal.heads(query):
                now = RunChange(run_id=head.run, status=head.status, seq=head.seq)
                if "runs" in topics and known.get(head.run) != now:
                    known[head.run] = now
                    yield Change(topic="runs", key=head.run, value=now)
            await self._app.scheduler.changed("", LOOK_S)
