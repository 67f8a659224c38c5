"""Who made a call whose outcome nobody knows: what the person who is asked about it should hear of its worker."""

from __future__ import annotations

from collegium.agents.halts import UnknownOutcome
from collegium.domain.body import TaskStarted
from collegium.ports import Journal
from collegium.runtime import history
from collegium.runtime.gate import Gate, Held
from collegium.runtime.questions import Stop
from collegium.tools.ledger import Entry


async def caller_of(stop: Stop, held: Held, *, journal: Journal, gate: Gate) -> str:
    """A sentence about the worker that made the call of ``stop``; empty where its outcome is not what is asked about.

    Where the call is on no ledger yet, ``held`` itself has made it.
    """
    if not isinstance(stop, UnknownOutcome):
        return ""
    worker = held.worker if stop.entry is None else await _worker_of(stop.entry, held.run, journal)
    is_silent = worker != held.worker and await gate.is_silent(worker)
    if is_silent is None:
        return "Its worker has ended."
    return "Its worker has not been heard of since, but has not ended." if is_silent else "Its worker lives."


async def _worker_of(entry: Entry, run: str, journal: Journal) -> str:
    async for events in history.own(journal, run):
        for event in events:
            if isinstance(event.body, TaskStarted) and (event.task, event.attempt) == (entry.task, entry.attempt):
                return event.body.worker
    return ""
