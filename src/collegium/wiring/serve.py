"""A serving process: HTTP, and the workers that it keeps running."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections.abc import Callable, Sequence

from collegium.adapters.clock import SystemClock
from collegium.adapters.leash import WorkOrder
from collegium.adapters.supervisor import COMMAND, Supervisor, told
from collegium.app import Collegium
from collegium.config import Settings, explain
from collegium.config.secrets import redactor_of
from collegium.domain.errors import StoreError
from collegium.runtime.admin_log import AdminLog
from collegium.runtime.courier import Courier
from collegium.runtime.settings_log import note_settings
from collegium.server.app import Faces, build
from collegium.server.auth.doorkeeper import Doorkeeper
from collegium.server.listener import Listener, listen, url_of
from collegium.server.metrics import Metrics
from collegium.server.readiness import Away, Readiness
from collegium.server.tls import Certificates
from collegium.telemetry import Reading, merged, teach_logs
from collegium.wiring import check_capabilities
from collegium.wiring.auth import check_exposure, require_keys
from collegium.wiring.faces import faces
from collegium.wiring.patience import Ending, Patience, end_within_s
from collegium.wiring.webhooks import make_courier

MORE_S = 2.0
"""A worker that has not ended by then did not hear its own alarm either."""
_log = logging.getLogger("collegium.process")


async def serve(
    settings: Settings,
    ending: Ending,
    *,
    listening: Callable[[str], None] = lambda url: None,
    opened: Callable[[bool], None] = lambda is_open: None,
    command: Sequence[str] = COMMAND,
) -> bool:
    """Serves until ``ending`` says so; returns whether all workers ended in good order.

    It answers from the start, whether stores are there or not, and says at ``/readyz`` what is missing.

    Args:
        settings: Where it listens, how many workers it keeps, where the stores are.
        ending: How it is told to end.
        listening: Told the URL as soon as it answers.
        opened: Told, once the stores answer, whether nobody need say who they are.
        command: Program and arguments of a worker; see ``adapters.leash`` for what it is told.

    Raises:
        UsageError: settings that cannot be; an address beyond this machine without any authentication.
        StoreError: a store that will not do, or was away for longer than ``worker.start_patience_s`` at the start.
    """
    await check_exposure(settings)
    check_capabilities(settings)
    clock = SystemClock()
    patience = Patience(settings, clock=clock, scope="none")
    readiness = Readiness(
        {"store": patience.store_away, "bus": patience.bus_away, "workers": lambda: _workers_away(supervisor)},
        clock=clock,
    )
    supervisor = Supervisor(
        lambda name: WorkOrder(name=name, settings=settings.model_dump(mode="json")),
        count=settings.server.workers,
        clock=clock,
        random=random.random,
        command=command,
        changed=readiness.forget,
    )

    async def figures() -> tuple[Reading, ...]:
        counted = merged(supervisor.readings(), patience.own_readings())
        return (*counted, *await patience.shared_readings())

    shown = faces(settings, patience, clock=clock)
    tls = _certificates(settings)
    socket = listen(settings.server.host, settings.server.port)
    served = build(settings.server.host, readiness, Metrics(figures, clock=clock), faces=shown)
    served.state.redactor = redactor_of(settings, os.environ)
    teach_logs(served.state.redactor)
    proxies = settings.server.trusted_proxies
    listener = Listener(served, socket, tls=None if tls is None else tls.context, proxies=proxies)
    ending.before_exit.append(supervisor.kill)
    listener.start()
    supervisor.start()
    listening(url_of(socket, is_tls=tls is not None))
    courier: Courier | None = None
    opening = asyncio.ensure_future(patience.open())
    waiting = asyncio.ensure_future(ending.told.wait())
    try:
        await asyncio.wait((opening, waiting), return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            courier = make_courier(settings, opening.result(), clock=clock)
            if settings.webhooks.send and shown is not None:
                await courier.start()
            await _tell(settings, shown, opened)
            await _note(settings, opening.result())
            # What there is now stays: no collection of garbage has to look at it again.
            gc.collect()
            gc.freeze()
        await waiting
    finally:
        readiness.is_draining = True
        opening.cancel()
        waiting.cancel()
        await asyncio.gather(opening, waiting, return_exceptions=True)
        if courier is not None:
            await courier.end()
        is_clean = await supervisor.end(end_within_s(settings) + MORE_S)
        if (hub := getattr(served.state, "hub", None)) is not None:
            await hub.aclose()
        await listener.aclose()
        if (refusals := getattr(served.state, "refusals", None)) is not None:
            await refusals.aclose()
        await patience.aclose()
    _log.info("ended")
    return is_clean


def _certificates(settings: Settings) -> Certificates | None:
    wanted = settings.server
    if wanted.tls_cert is None or wanted.tls_key is None:
        return None
    return Certificates(wanted.tls_cert, wanted.tls_key, wanted.tls_client_ca)


async def _workers_away(supervisor: Supervisor) -> Sequence[Away]:
    if not supervisor.hands or any(hand.is_ready for hand in supervisor.hands):
        return ()
    return (Away(what="workers", why=told(supervisor.hands)),)


async def _note(settings: Settings, app: Collegium) -> None:
    """Has the log say which settings are others than at the last start."""
    shown = {row.key: str(row.value) for row in explain(settings)}
    try:
        await note_settings(app.stores.records, AdminLog(app.stores.journal, now=app.now), shown)
    except StoreError as error:
        _log.warning("the log does not say which settings changed: %s", error)


async def _tell(settings: Settings, shown: Faces | None, opened: Callable[[bool], None]) -> None:
    """Tells whether nobody need say who they are. Raises ``UsageError`` where nobody could."""
    if shown is None or not isinstance(shown.authenticator, Doorkeeper):
        return
    try:
        is_open = await shown.authenticator.is_open()
        if not is_open:
            await require_keys(settings, shown.authenticator.keys)
    except StoreError:
        return  # away again: whoever asks is told
    opened(is_open)
