"""The cards of workers in this process's memory."""

from __future__ import annotations

from collegium.domain.worker import WorkerCard
from collegium.ports import Clock


class MemoryDirectory:
    """Implements ``Directory`` for the workers of one process.

    Args:
        clock: Tells which cards still count.
        board: The cards of all workers; shared by several of these, they see each other like processes do.
    """

    def __init__(self, clock: Clock, *, board: dict[str, tuple[float, WorkerCard]] | None = None) -> None:
        self._clock = clock
        self._board = {} if board is None else board

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card for ``ttl_s`` seconds, in place of the worker's last one."""
        self._board[card.worker] = (self._clock.monotonic() + ttl_s, card)

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker; others are forgotten."""
        now_s = self._clock.monotonic()
        for worker in [worker for worker, (until_s, _) in self._board.items() if until_s <= now_s]:
            del self._board[worker]
        return tuple(card for _, (_, card) in sorted(self._board.items(), key=lambda item: item[0]))

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless."""
        self._board.pop(worker, None)
