"""What a fork begins with beside its state: its parents' ledger, and the files they had written."""

from __future__ import annotations

import msgspec

from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.ports import Journal
from collegium.runtime import history
from collegium.tools import ledger as books


async def inherited(journal: Journal, first: Event) -> books.Ledger:
    """The ledger of a fork before its first event, ``first``: its parents' up to where it was forked.

    With effects ``ask`` it knows as well what they wrote behind that.
    """
    ledger = books.Ledger()
    async for page in history.prefix(journal, first):
        ledger = books.fold(page, ledger)
    if not isinstance(first.body, b.RunForked) or first.body.effects == "allow":
        return ledger
    elsewhere: dict[str, books.Entry] = {}
    async for whole, shared in history.later(journal, first):
        parent = whole[-1].run
        known = books.fold(e for e in whole if e.run != parent or e.seq <= shared)
        elsewhere.update({e.key: e for e in books.written_since(whole, known)})
    return msgspec.structs.replace(ledger, elsewhere=tuple(elsewhere.values()))


async def files_of(journal: Journal, first: Event) -> dict[str, str]:
    """The SHA-256 of each file that stood in the work folder where the fork begins, by its path."""
    files: dict[str, str] = {}
    async for page in history.prefix(journal, first):
        for event in page:
            if isinstance(event.body, b.ToolFinished) and event.body.result.is_ok:
                data = event.body.result.data or {}
                if event.body.tool == "write_file" and "sha256" in data:
                    files[str(data["path"])] = str(data["sha256"])
    return files
