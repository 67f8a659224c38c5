"""Conversations: runs that ask on from each other, as one principal may see and lead them.

A conversation is named by its first run. Which run it has come to is kept beside the journal, where it can be found
without looking at every run; that a run continues another is in the journal itself.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from collegium.app import Collegium
from collegium.domain.errors import Conflict, NotFound, UsageError
from collegium.domain.principal import Principal
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.server.access.runs import RunAccess, Submission

KIND: Final = "conversation"
MOST: Final = 200
"""So many runs of one conversation are looked at."""


class ConversationAccess:
    """The conversations of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._runs = RunAccess(app, principal)

    async def of(self, run: str) -> tuple[RunState, ...]:
        """``run`` and the runs that it has come from, the newest first; the last one names the conversation."""
        found = [await self._runs.state(run)]
        while (before := found[-1].goal.continues) is not None and len(found) < MOST:
            found.append(await self._runs.state(before))
        return tuple(found)

    async def name(self, state: RunState) -> str:
        """The name of the conversation that the run belongs to."""
        return state.id if state.goal.continues is None else (await self.of(state.id))[-1].id

    async def newest(self, conversation: str) -> RunState:
        """The run that the conversation has come to. Raises ``NotFound`` for what is none."""
        first = await self._runs.state(conversation)
        if first.goal.continues is not None:
            raise NotFound(f"there is no conversation {conversation}", conversation=conversation)
        record = await self._app.stores.records.get(KIND, self._principal.tenant, conversation)
        return first if record is None else await self._runs.state(str(record.value["run"]))

    async def submit(self, wanted: Submission, *, message: str, conversation: str | None = None) -> str:
        """The run for a message: in ``conversation`` it asks on from the newest run; the same message gives the same.

        Raises ``UsageError`` as long as the run before goes on.
        """
        digest = hashlib.sha256(f"{self._principal.id}\0{message}".encode()).hexdigest()
        key = f"message:{digest}"
        if conversation is None:
            return await self._runs.submit(wanted, key=key)
        newest = await self.newest(conversation)
        record = await self._app.stores.records.get(KIND, self._principal.tenant, conversation)
        if record is not None and record.value["message"] == digest:
            return str(record.value["run"])
        if newest.finished is None:
            raise UsageError(f"{newest.id} goes on: answer it, wait for it or cancel it first", run=newest.id)
        run = await self._runs.submit(msgspec.structs.replace(wanted, continues=newest.id), key=key)
        value = {"run": run, "message": digest}
        made = Record(kind=KIND, tenant=self._principal.tenant, key=conversation, value=value)
        try:
            await self._app.stores.records.put(made, expected=0 if record is None else record.version)
        except Conflict as error:
            raise Conflict(
                f"another message to {conversation} came at the same moment: {run} asks on beside it"
            ) from error
        return run

    async def say(self, run: str, text: str) -> None:
        """Adds to what is wanted of a run that goes on."""
        self._principal.require("runs:write")
        await self._app.inbox.say(run, text, principal=self._principal.id, tenant=self._principal.tenant)

    def skills(self) -> dict[str, str]:
        """What the team can do: each capability with the description of the first agent that has it."""
        self._principal.require("agents:read")
        return {name: self._app.roster.able(name)[0].description for name in sorted(self._app.roster.capabilities)}
