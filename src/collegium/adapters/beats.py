"""Beats: a worker process shows that it lives by a counter that moves, and others judge it by their own clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from collegium.ports import Clock

DEFAULT_LEASE_S = 10.0
BEATS_PER_LEASE = 4
_log = logging.getLogger("collegium.presence")


def boottime_s() -> float:
    """Seconds that grow while the machine is suspended, too; monotonic time where the system has no such clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Beats:
    """Calls ``beat`` from a thread, four times a lease, as long as the event loop ticks.

    A thread, since a busy loop is no dead one; only while the loop ticks, since a loop that stands does no work either.

    Args:
        beat: Shows others that the process lives; it raises ``OSError`` when that did not succeed.
        now_s: A clock that grows while the machine is suspended.
    """

    def __init__(self, beat: Callable[[], None], *, lease_s: float, now_s: Callable[[], float] = boottime_s) -> None:
        self._beat = beat
        self._lease_s = lease_s
        self._now_s = now_s
        self._ticked_s = now_s()
        self._confirmed_s = -inf
        self._gaps = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def every_s(self) -> float:
        """Seconds between two beats."""
        return self._lease_s / BEATS_PER_LEASE

    def start(self) -> None:
        """Beats at once and from then on. Raises ``OSError`` when the first beat does not succeed."""
        if self._thread is not None:
            return
        self.tick()
        self._confirm()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="collegium-beats", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; twice is harmless."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def tick(self) -> None:
        """The event loop runs."""
        self._ticked_s = self._now_s()

    def fresh_s(self) -> float:
        """For how many seconds more a call may be started: half a lease after the last confirmed beat."""
        return self._confirmed_s + self._lease_s / 2 - self._now_s()

    def gaps(self) -> int:
        """How often a beat has come later than half a lease after the one before."""
        return self._gaps

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self.every_s):
            if self._now_s() - self._ticked_s >= self._lease_s:
                continue
            try:
                self._confirm()
            except OSError as error:
                _log.warning("this worker cannot show that it lives and starts no calls: %s", error)

    def _confirm(self) -> None:
        # The time before the beat: whoever sees it sees it later.
        at_s = self._now_s()
        self._beat()
        # The gap first: whoever sees that the process is fresh again sees that it was not.
        self._gaps += 0 < at_s - self._confirmed_s - self._lease_s / 2 < inf
        self._confirmed_s = at_s


class _Seen(NamedTuple):
    beats: int
    at_s: float
    still_s: float


class Observer:
    """Judges others by their counters: dead is whose counter stands still for a lease of this process's own time.

    Only time in which this process looked counts: one that was stopped itself has seen nothing, and judges nobody for
    the time that it slept.
    """

    def __init__(self, clock: Clock, *, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._seen: dict[str, _Seen] = {}

    def is_dead(self, worker: str, beats: int) -> bool:
        """Whether ``worker``, whose counter is at ``beats`` now, is dead."""
        now_s = self._clock.monotonic()
        last = self._seen.get(worker)
        if last is None or last.beats != beats:
            self._seen[worker] = _Seen(beats, now_s, 0.0)
            return False
        still_s = last.still_s + min(now_s - last.at_s, self._lease_s / 2)
        self._seen[worker] = _Seen(beats, now_s, still_s)
        return still_s >= self._lease_s

    def silence(self, worker: str) -> float | None:
        """For how many leases the counter of ``worker`` has been seen standing still; None for one never looked at."""
        seen = self._seen.get(worker)
        return None if seen is None else seen.still_s / self._lease_s

    def forget_others(self, workers: set[str]) -> None:
        """Forgets all but ``workers``."""
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in workers}
