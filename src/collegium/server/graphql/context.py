"""What goes with a request: who asks, and what was read for it already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import HTTPConnection
from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from collegium.domain.errors import CollegiumError
from collegium.domain.run import RunState
from collegium.server.access.access import Access


class Context:
    """The caller of a request, and its loaders.

    Args:
        caller: What it may see and do.
        connection: The request, or the socket.
        keeps: Whether what was read is kept: for one request, not for a socket that stays open.
        is_valid: Whether the caller's credential still holds, where that has to be asked again: on a socket.
    """

    def __init__(
        self,
        caller: Access,
        connection: HTTPConnection,
        *,
        keeps: bool,
        is_valid: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.is_valid = is_valid
        self.caller = caller
        self.connection = connection
        self.runs: DataLoader[str, RunState] = DataLoader(self._states, cache=keeps)

    async def _states(self, runs: list[str]) -> Sequence[RunState | BaseException]:
        """The runs; a run that is asked for twice is read once. The journal has no way to read several at once."""
        found: dict[str, RunState | BaseException] = {}
        for run in dict.fromkeys(runs):
            try:
                found[run] = await self.caller.runs.state(run)
            except CollegiumError as error:
                found[run] = error
        return [found[run] for run in runs]


Info = StrawberryInfo[Context, None]
