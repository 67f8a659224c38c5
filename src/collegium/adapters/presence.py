"""Which worker processes live: a locked file with a counter each. The kernel frees the lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path

from collegium.adapters.beats import BEATS_PER_LEASE, DEFAULT_LEASE_S, Beats, Observer, boottime_s
from collegium.adapters.clock import SystemClock
from collegium.adapters.folders import make_folder, sync_folder
from collegium.ports import Clock


class FilePresence:
    """One file per worker in ``folder``, for processes of one machine; see ``ports.Presence``.

    A free lock shows a death at once. A stopped process keeps its lock, so beside it the file holds the beats: one
    counter, written in place, never fsynced. The file of a worker that only seems dead stays: should it go on, it is
    seen again with its next beat.

    Args:
        folder: Every process that shares the store has to name the same folder.
        clock: By its monotonic time others are judged.
        now_s: The clock of own beats, see ``Beats``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        now_s: Callable[[], float] = boottime_s,
    ) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._ended: set[str] = set()
        self._lock = threading.Lock()
        self._count = 0
        self._beats = Beats(self._beat, lease_s=lease_s, now_s=now_s)
        self._observer = Observer(clock or SystemClock(), lease_s=lease_s)

    async def announce(self, worker: str) -> None:
        """Makes the worker's file, locked from the first moment that others can see it, and begins to beat."""
        with self._lock:
            self._held[worker] = self._make(worker)
        self._beats.start()

    async def withdraw(self, worker: str) -> None:
        """Removes the worker's file, unless another process holds it, or held it when ``dead`` was asked last.

        Who asked what a worker left while that only stood still knows nothing of what it did before it really ended.
        """
        if worker in self._held:
            self._path(worker).unlink(missing_ok=True)
            self._release(worker)
            return
        if worker not in self._ended:
            return
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path(worker).unlink(missing_ok=True)
        except BlockingIOError:
            return
        finally:
            os.close(descriptor)

    async def abandon(self, worker: str) -> None:
        """Lets the worker be found dead: it leaves something that others have to see to."""
        self._release(worker)

    async def dead(self) -> tuple[str, ...]:
        """Workers whose file is there, and whose lock is free or whose counter stands still."""
        if not self._folder.is_dir():
            return ()
        others = {p.stem for p in self._folder.glob("wrk_*.lock")} - self._held.keys()
        self._observer.forget_others(others)
        self._ended.clear()
        return tuple(sorted(w for w in others if self._is_dead(w)))

    def silence(self, worker: str) -> float | None:
        """For how many leases the counter stood still; a lock that is free is the end, seen by whoever looks last."""
        if worker in self._held:
            return 0.0
        return inf if worker in self._ended else self._observer.silence(worker)

    def tick(self) -> float:
        """The event loop runs; returns after how many seconds to say so again."""
        self._beats.tick()
        return self._beats.every_s

    def fresh_s(self) -> float:
        """For how many seconds more a call may be started."""
        return self._beats.fresh_s()

    def gaps(self) -> int:
        """How often the beats stood still for longer than half a lease."""
        return self._beats.gaps()

    def _make(self, worker: str) -> int:
        make_folder(self._folder)
        hidden = self._folder / f".{worker}.{os.getpid()}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._write(descriptor)
        hidden.rename(self._path(worker))
        # A power cut must not leave attempts of a worker in the journal whom nobody can find dead.
        sync_folder(self._folder)
        return descriptor

    def _release(self, worker: str) -> None:
        with self._lock:
            descriptor = self._held.pop(worker, None)
            is_last = not self._held
        if descriptor is not None:
            os.close(descriptor)
        if is_last:
            self._beats.stop()

    def _beat(self) -> None:
        """Called from the thread: moves the counter; whose file was removed makes it anew."""
        with self._lock:
            self._count += 1
            for worker, descriptor in self._held.items():
                self._write(descriptor)
                if os.fstat(descriptor).st_nlink == 0:
                    self._held[worker] = self._make(worker)
                    os.close(descriptor)

    def _write(self, descriptor: int) -> None:
        os.pwrite(descriptor, b"%020d\n" % self._count, 0)

    def _is_dead(self, worker: str) -> bool:
        try:
            descriptor = os.open(self._path(worker), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared: two that look at the same time must not take each other for the holder.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._observer.is_dead(worker, int(os.pread(descriptor, 20, 0) or b"0"))
        finally:
            os.close(descriptor)
        self._ended.add(worker)
        return True

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"


class MemoryPresence:
    """Workers of one process. Without a ``clock`` and a ``board`` nobody but an abandoned worker is ever dead.

    Args:
        clock: By its monotonic time others are judged, and the own beats, which are made with each tick.
        board: The counters of all workers; shared by several of these, they see each other like processes do.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        board: dict[str, int] | None = None,
        lease_s: float = DEFAULT_LEASE_S,
    ) -> None:
        self._clock = clock
        self._board = {} if board is None else board
        self._lease_s = lease_s
        self._held: set[str] = set()
        self._ended: frozenset[str] = frozenset()
        self._beaten_s = -inf
        self._gaps = 0
        self._observer = None if clock is None else Observer(clock, lease_s=lease_s)

    async def announce(self, worker: str) -> None:
        """Notes the worker."""
        self._held.add(worker)
        self._board.setdefault(worker, 0)
        self.tick()

    async def withdraw(self, worker: str) -> None:
        """Forgets the worker, unless it only seemed dead when this one asked."""
        if worker in self._held or worker in self._ended:
            self._held.discard(worker)
            self._board.pop(worker, None)

    async def abandon(self, worker: str) -> None:
        """Lets the worker be found dead."""
        if worker in self._held:
            self._held.discard(worker)
            self._board[worker] = _ABANDONED

    async def dead(self) -> tuple[str, ...]:
        """Workers that were abandoned, and those of others whose counter stands still."""
        others = self._board.keys() - self._held
        if self._observer is not None:
            self._observer.forget_others(others)
        self._ended = frozenset(w for w in others if self._board[w] == _ABANDONED)
        return tuple(sorted(w for w in others if self._is_dead(w)))

    def silence(self, worker: str) -> float | None:
        """For how many leases the counter stood still."""
        if worker not in self._board or worker in self._held:
            return None if worker not in self._held else 0.0
        if self._board[worker] == _ABANDONED:
            return inf
        return 0.0 if self._observer is None else self._observer.silence(worker)

    def tick(self) -> float:
        """Beats; returns after how many seconds to do so again."""
        for worker in self._held:
            self._board[worker] = self._board.get(worker, 0) + 1
        if self._clock is not None:
            self._gaps += 0 < -self.fresh_s() < inf
            self._beaten_s = self._clock.monotonic()
        return self._lease_s / BEATS_PER_LEASE

    def fresh_s(self) -> float:
        """For how many seconds more a call may be started."""
        if self._clock is None:
            return self._lease_s / 2
        return self._beaten_s + self._lease_s / 2 - self._clock.monotonic()

    def gaps(self) -> int:
        """How often a tick has come later than half a lease after the one before."""
        return self._gaps

    def _is_dead(self, worker: str) -> bool:
        count = self._board[worker]
        if count == _ABANDONED:
            return True
        return self._observer is not None and self._observer.is_dead(worker, count)


_ABANDONED = -1
"""The counter of a worker that was abandoned."""


def held_in(folder: Path) -> tuple[str, ...]:
    """Workers of ``folder`` whose process is there, whether it beats or stands still."""
    found = []
    for path in sorted(folder.glob("wrk_*.lock")) if folder.is_dir() else ():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(path.stem)
        finally:
            os.close(descriptor)
    return tuple(found)
