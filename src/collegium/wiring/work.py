"""A worker process: works on every run of the store, for as long as nobody tells it to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from collegium.adapters.clock import SystemClock
from collegium.adapters.leash import State, Word
from collegium.config import Settings
from collegium.domain.agent import Agent
from collegium.ports import Clock
from collegium.server.metrics import Metrics
from collegium.server.readiness import Readiness
from collegium.telemetry import Reading
from collegium.tools.definition import Tool
from collegium.wiring import check_capabilities
from collegium.wiring.patience import Ending, Patience, end_within_s

if TYPE_CHECKING:
    from collegium.server.listener import Listener

WORD_S = 1.0
_log = logging.getLogger("collegium.process")


async def work(
    settings: Settings,
    ending: Ending,
    *,
    model: str | None = None,
    tools: Sequence[Tool] = (),
    agents: Sequence[Agent] = (),
    alone: Sequence[str] | None = None,
    ready: Callable[[str], None] = lambda worker: None,
    say: Callable[[Word], None] = lambda word: None,
) -> None:
    """Works until ``ending`` says so, or an order to this worker; returns when all it did is parked and stored.

    Stores may be away as it starts, and later. It ends within ``end_within_s``: what is not stored by then is found by
    others as if this process had crashed.

    Args:
        settings: Where the stores are, and what this worker takes.
        ending: How it is told to end.
        model: See ``open_collegium``.
        tools: The same.
        agents: The same.
        alone: The same.
        ready: Told the worker's id once it takes tasks.
        say: Told how it is, each second and whenever that changes.

    Raises:
        UsageError: settings that cannot be.
        StoreError: a store that will not do, or was away for longer than ``worker.start_patience_s`` at the start.
    """
    if not agents:
        check_capabilities(settings)
    clock = SystemClock()
    patience = Patience(settings, clock=clock, scope="all", model=model, tools=tools, agents=agents, alone=alone)
    looks = {"store": patience.store_away, "bus": patience.bus_away}
    worker = _Worker(patience, Readiness(looks, clock=clock), clock=clock, say=say)
    listener = _health(settings, worker)
    working = asyncio.ensure_future(worker.work(ready))
    told = asyncio.ensure_future(ending.told.wait())
    saying = asyncio.ensure_future(worker.keep_saying())
    try:
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    except BaseException:
        worker.end("failed")
        raise
    else:
        worker.end("draining")
    finally:
        late = asyncio.get_running_loop().call_later(end_within_s(settings), _too_late, ending, settings)
        for task in (working, told):
            task.cancel()
        await asyncio.gather(working, told, return_exceptions=True)
        await patience.aclose()
        late.cancel()
        saying.cancel()
        with suppress(asyncio.CancelledError):
            await saying
        if listener is not None:
            await listener.aclose()
    _log.info("ended: what was being worked on goes on with others")


class _Worker:
    """What the process is doing, for those who ask."""

    def __init__(self, patience: Patience, readiness: Readiness, *, clock: Clock, say: Callable[[Word], None]) -> None:
        self.readiness = readiness
        self.metrics = Metrics(self._figures, clock=clock)
        self._patience = patience
        self._clock = clock
        self._say = say
        self._state: State = "starting"
        self._worker = ""

    async def work(self, ready: Callable[[str], None]) -> None:
        """Works until others tell this worker to end; raises what ended it otherwise."""
        self._be("waiting")
        app = await self._patience.open()
        self._worker = app.worker.id
        self._be("ready")
        _log.info("worker %s is ready for %s", app.worker.id, ", ".join(app.worker.capabilities))
        ready(app.worker.id)
        await app.over()

    def end(self, state: State) -> None:
        """Nothing new is taken from here on."""
        self.readiness.is_draining = True
        self._be(state)

    async def keep_saying(self) -> None:
        """Says how it is, until it is cancelled."""
        while True:
            self._tell()
            await self._clock.sleep(WORD_S)

    def _be(self, state: State) -> None:
        self._state = state
        self.readiness.forget()
        self._tell()

    def _tell(self) -> None:
        why = self._patience.why if self._state == "waiting" else ""
        self._say(Word(state=self._state, why=why, worker=self._worker, readings=self._patience.own_readings()))

    async def _figures(self) -> tuple[Reading, ...]:
        return (*self._patience.own_readings(), *await self._patience.shared_readings())


def _health(settings: Settings, worker: _Worker) -> Listener | None:
    """The worker's own port for probes, where one is wanted."""
    if settings.worker.health_port is None:
        return None
    # Half of what a worker would import, and most of them listen to nobody.
    from collegium.server.app import build
    from collegium.server.listener import Listener, listen, url_of

    host = settings.worker.health_host
    listening = listen(host, settings.worker.health_port)
    listener = Listener(build(host, worker.readiness, worker.metrics), listening)
    listener.start()
    _log.info("health at %s", url_of(listening))
    return listener


def _too_late(ending: Ending, settings: Settings) -> None:
    _log.error("what is worked on could not be parked within %g s: others take it over", end_within_s(settings))
    ending.exit(1)
