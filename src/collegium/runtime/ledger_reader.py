"""The ledger of a run as an attempt reads it: each event once, however many writes the attempt makes."""

from __future__ import annotations

from collegium.ports import Journal
from collegium.runtime.inheritance import inherited
from collegium.tools import ledger as books


class LedgerReader:
    """Folds the calls of a run, what a fork has from its parents included."""

    def __init__(self, journal: Journal, run: str, *, is_fork: bool) -> None:
        self._journal = journal
        self._run = run
        self._is_fork = is_fork
        self._ledger, self._folded_to = books.Ledger(), 0

    async def read(self) -> books.Ledger:
        """The calls of the whole run so far."""
        while events := await self._journal.read(self._run, after := self._folded_to):
            before = await inherited(self._journal, events[0]) if self._is_fork and after == 0 else self._ledger
            if after == self._folded_to:  # nobody else has folded them meanwhile
                self._ledger, self._folded_to = books.fold(events, before), events[-1].seq
        return self._ledger
