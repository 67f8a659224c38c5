"""Conversations: runs that ask on from each other, as one principal may see and lead them.

A conversation is named by its first run. Which run it has come to is kept beside the journal, where it can be found
without looking at every run; that a run continues another is in the journal itself.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final

import msgspec

from collegium.app import Collegium
from collegium.domain.chat import Json
from collegium.domain.errors import Conflict, NotFound, WrongState
from collegium.domain.principal import Principal
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.server.access.runs import RunAccess, Submission

KIND, ALIAS = "conversation", "conversation_alias"
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
        record = await self._record(conversation)
        return first if record is None else await self._runs.state(str(record.value["run"]))

    async def called(self, alias: str) -> str | None:
        """The name of the conversation that others call ``alias``, or None where nobody has begun it."""
        self._principal.require("runs:read")
        record = await self._app.stores.records.get(ALIAS, self._principal.tenant, _digest(alias))
        return None if record is None else str(record.value["conversation"])

    async def submit(
        self, wanted: Submission, *, message: str, conversation: str | None = None, alias: str | None = None
    ) -> str:
        """The run for a message: in ``conversation`` it asks on from the newest run; the same message gives the same.

        Args:
            wanted: The goal.
            message: Id that the sender has given the message.
            conversation: Its name; None begins another one.
            alias: What others call the conversation that is begun.

        Raises ``WrongState`` as long as the run before goes on.
        """
        digest = _digest(self._principal.id, message)
        key, record = f"message:{digest}", None
        if conversation is not None:
            newest = await self.newest(conversation)
            record = await self._record(conversation)
            if record is not None and record.value["message"] == digest:
                return str(record.value["run"])
            if newest.finished is None:
                raise WrongState(f"{newest.id} goes on: answer it, wait for it or cancel it first", run=newest.id)
            wanted = msgspec.structs.replace(wanted, continues=newest.id)
        run = await self._runs.submit(wanted, key=key)
        value = {"run": run, "message": digest}
        await self._put(KIND, conversation or run, value, expected=0 if record is None else record.version)
        if alias is not None and conversation is None:
            await self._put(ALIAS, _digest(alias), {"conversation": run}, expected=0)
        return run

    async def _record(self, conversation: str) -> Record | None:
        return await self._app.stores.records.get(KIND, self._principal.tenant, conversation)

    async def _put(self, kind: str, key: str, value: Json, *, expected: int) -> None:
        """Keeps where a conversation has come to.

        Another message of the same moment may have been faster: then its run is what the next one asks on from, and
        this run stands beside it.
        """
        with suppress(Conflict):
            made = Record(kind=kind, tenant=self._principal.tenant, key=key, value=value)
            await self._app.stores.records.put(made, expected=expected)

    def skills(self) -> dict[str, str]:
        """What the team can do: each capability with the description of the first agent that has it."""
        self._principal.require("agents:read")
        return {name: self._app.roster.able(name)[0].description for name in sorted(self._app.roster.capabilities)}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
