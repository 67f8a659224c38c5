"""Cards: what a worker process shows of itself, every few seconds, for as long as it works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from collegium.domain.errors import CollegiumError
from collegium.domain.worker import AgentCard, WorkerCard, WorkerState
from collegium.ports import Clock, Directory

CARD_S = 2.0
TTL_S = 10.0
"""A card counts for so long: a worker that could not post for this time is not shown any more."""
LOOK_S = 0.25
_log = logging.getLogger("collegium.cards")


class Place(NamedTuple):
    """Where a process runs, and as what version of collegium."""

    host: str
    pid: int
    version: str


class Working(Protocol):
    """A worker, as far as its card goes."""

    id: str

    @property
    def is_draining(self) -> bool:
        """Whether it takes nothing more."""
        ...

    @property
    def load(self) -> int:
        """Tasks it works on."""
        ...

    @property
    def concurrency(self) -> int:
        """How many it works on at most."""
        ...

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What its tasks may ask for."""
        ...


class Cards:
    """Posts the card of one worker.

    Args:
        worker: Whose card it is.
        directory: Where it is shown.
        place: Where the worker runs.
        agents: How its agents do.
        models: Local models that are loaded in this process.
    """

    def __init__(
        self,
        worker: Working,
        directory: Directory,
        *,
        place: Place,
        clock: Clock,
        agents: Callable[[], tuple[AgentCard, ...]] = tuple,
        models: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._worker = worker
        self._directory = directory
        self._place = place
        self._clock = clock
        self._agents = agents
        self._models = models
        self._started_at = clock.now()
        self._lag_s = 0.0
        self._posted: WorkerState | None = None
        self._is_away = False

    async def show(self) -> None:
        """Posts the card every ``CARD_S`` and at once when the state changes, until it is cancelled."""
        posted_s = float("-inf")
        while True:
            before_s = self._clock.monotonic()
            if before_s - posted_s >= CARD_S or self._posted != self._state:
                posted_s = before_s
                await self.post()
                before_s = self._clock.monotonic()
            await self._clock.sleep(LOOK_S)
            late_s = max(0.0, self._clock.monotonic() - before_s - LOOK_S)
            # The worst of the last seconds: one long pause has to be seen by whoever looks a little later.
            self._lag_s = max(late_s, self._lag_s * 0.8)

    async def post(self) -> None:
        """Posts the card as it is now; a directory that is away is told of once and costs nothing but the view."""
        state = self._state
        try:
            await self._directory.post(self.card(), ttl_s=TTL_S)
        except CollegiumError as error:
            if not self._is_away:
                _log.warning("the card of this worker could not be shown: %s", error)
            self._is_away = True
        else:
            self._is_away, self._posted = False, state

    async def remove(self) -> None:
        """The worker leaves."""
        try:
            await self._directory.remove(self._worker.id)
        except CollegiumError as error:
            _log.info("the card of this worker could not be taken away, it fades in %g s: %s", TTL_S, error)

    def card(self) -> WorkerCard:
        """The card as it is now."""
        return WorkerCard(
            worker=self._worker.id,
            host=self._place.host,
            pid=self._place.pid,
            version=self._place.version,
            started_at=self._started_at,
            at=self._clock.now(),
            state=self._state,
            capabilities=self._worker.capabilities,
            models=self._models(),
            load=self._worker.load,
            concurrency=self._worker.concurrency,
            lag_s=round(self._lag_s, 4),
            agents=self._agents(),
        )

    @property
    def _state(self) -> WorkerState:
        return "draining" if self._worker.is_draining else "ready"
