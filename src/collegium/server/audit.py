"""What of each request enters the administrative log by itself: where it came from, and that it was refused.

Changes are written by the access layer, each where it is made. Refusals (401, 403) are written here, gathered: the
first of a kind at once, those like it within a minute as one line with their number, and never more than so many lines
a minute. A storm costs a few lines, whatever its size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import Message, Scope

from collegium.app import Collegium
from collegium.domain.deed import INSTALLATION, LogNoted
from collegium.domain.errors import CollegiumError, NotAuthenticated
from collegium.domain.principal import Principal
from collegium.server.access.deeds import Origin, log_of

WINDOW_S: Final = 60.0
MOST_LINES: Final = 100
"""So many kinds of refusals a window are told apart by each process; the rest is one more line with its number."""
REFUSED: Final = {401: "not_authenticated", 403: "not_allowed"}
_MOST_PATH: Final = 200
_log = logging.getLogger("collegium.audit")


class Kind(NamedTuple):
    """Refusals that are counted as one line."""

    tenant: str
    actor: str
    address: str
    status: int
    what: str


class RefusalLog:
    """Gathers refusals and writes them.

    A crash loses the numbers of the last window, never its first lines; a store that is away loses lines, and the
    answers go on.

    Args:
        opened: Gives the Collegium once its stores have answered; what is refused before waits for that.
    """

    def __init__(self, opened: Callable[[], Collegium | None]) -> None:
        self._opened = opened
        self._began_at: datetime | None = None
        self._lines: dict[Kind, LogNoted] = {}
        self._more: dict[Kind, int] = {}
        self._beyond = 0
        self._waiting: list[tuple[str, LogNoted]] = []
        self._writing: asyncio.Task[None] | None = None

    def note(self, kind: Kind, origin: Origin, credential: str = "") -> None:
        """Takes note of a refusal; returns at once."""
        if kind in self._lines:
            self._more[kind] = self._more.get(kind, 0) + 1
        elif len(self._lines) >= MOST_LINES:
            self._beyond += 1
        else:
            line = LogNoted(
                actor=kind.actor,
                action="requests.refused",
                object=kind.what,
                decision="refused",
                rule=REFUSED[kind.status],
                address=kind.address,
                trace=origin.trace,
                credential=credential,
            )
            self._lines[kind] = line
            self._waiting.append((kind.tenant, line))
        self.look()

    def note_answer(self, scope: Scope, origin: Origin, status: int) -> None:
        """Takes note of a request that was answered with ``status``, one of ``REFUSED``."""
        connection = HTTPConnection(scope)
        principal: Principal | None = getattr(connection.state, "principal", None)
        what = f"{scope.get('method', 'WEBSOCKET')} {connection.url.path[:_MOST_PATH]}"
        if principal is None:  # nobody knows whose: one line for all paths, or a scan of them fills the window
            self.note(Kind(INSTALLATION, "", origin.address, status, what.partition(" ")[0]), origin)
        else:
            self.note(Kind(principal.tenant, principal.id, origin.address, status, what), origin, principal.credential)

    def look(self) -> None:
        """Ends the window when it is over and has what waits written; asked with every request."""
        if not self._lines:
            return
        app = self._opened()
        if app is None:
            return
        now = app.now()
        self._began_at = self._began_at or now
        if now - self._began_at >= timedelta(seconds=WINDOW_S):
            self._end_window()
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(app))

    async def aclose(self) -> None:
        """Writes all there is."""
        self._end_window()
        app = self._opened()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        if app is not None:
            await self._write(app)

    def _end_window(self) -> None:
        for kind, more in self._more.items():
            self._waiting.append((kind.tenant, msgspec.structs.replace(self._lines[kind], count=more)))
        if self._beyond:
            rest = LogNoted(
                actor="", action="requests.refused", decision="refused", count=self._beyond,
                reason=f"beyond the {MOST_LINES} kinds that are told apart in {WINDOW_S:g} s",
            )  # fmt: skip
            self._waiting.append((INSTALLATION, rest))
        self._lines, self._more, self._beyond, self._began_at = {}, {}, 0, None

    async def _write(self, app: Collegium) -> None:
        while self._waiting:
            lines, self._waiting = self._waiting, []
            for tenant, noted in _by_tenant(lines):
                try:
                    await log_of(app).note(tenant, *noted)
                except CollegiumError as error:
                    _log.warning("%d refused requests are not in the log of %s: %s", len(noted), tenant, error)


def _by_tenant(lines: Iterable[tuple[str, LogNoted]]) -> Iterable[tuple[str, list[LogNoted]]]:
    gathered: dict[str, list[LogNoted]] = {}
    for tenant, line in lines:
        gathered.setdefault(tenant, []).append(line)
    return gathered.items()


def status_of(message: Message) -> int:
    """The status of an answer; a WebSocket that is closed for policy counts as refused."""
    if message["type"] == "http.response.start":
        status: int = message["status"]
        return status
    is_refused = message["type"] == "websocket.close" and (message.get("code") == 1008 or is_failed_attempt(message))
    return 401 if is_refused else 0


def is_failed_attempt(message: Message) -> bool:
    """Whether an answer says that a credential did not hold, in a header or in a socket's first message."""
    return message.get("status") == 401 or message.get("reason") == NotAuthenticated.code
