"""The real clock, whose time of day does not jump."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

SLEW: Final = 10
"""The time of day moves towards the machine's by at most one part in this many of the time that passes."""
LOOK_NS: Final = 1_000_000_000
"""How often the machine's time of day is looked at, at most."""
JUMP_NS: Final = 60 * 1_000_000_000
"""How far the machine's time of day has to be off to be worth a warning."""
_log = logging.getLogger("collegium.clock")


def _boottime() -> Callable[[], int]:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns if clock is None else partial(time.clock_gettime_ns, clock)


boottime_ns: Final = _boottime()
"""Nanoseconds that grow while the machine is suspended, too; monotonic time where there is no such clock."""


class SystemClock:
    """The machine's time of day, without its jumps, and its monotonic clock.

    Waking times, deadlines and expiries are stored as times of day. Were the machine's clock put an hour back, a retry
    due in a second would be due in an hour; put forth, every deadline would have passed. So a process looks at the time
    of day once, as it starts, and from then on counts the time that passes (suspended time included). Where the
    machine's time of day is another, it is followed slowly: what was to take ten minutes takes nine to eleven. ``now``
    never goes back.

    Args:
        wall_ns: The machine's time of day, in nanoseconds since 1970.
        steady_ns: The time that passes.
    """

    def __init__(
        self, *, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = boottime_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._lock = threading.Lock()
        self._line = (wall_ns(), steady_ns(), 0)
        """The time of day at a look, the steady time of that look, and how far the machine's time was off then."""
        self._is_off = False

    def now(self) -> datetime:
        """The time of day, UTC-aware; never goes back, never jumps."""
        return datetime.fromtimestamp(self._time_ns() / 1e9, UTC)

    def now_ms(self) -> int:
        """The same in milliseconds since 1970, as ids count it."""
        return self._time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``; zero or less only yields."""
        await asyncio.sleep(max(0.0, seconds))

    def _time_ns(self) -> int:
        line = self._line
        passed_ns = self._steady_ns() - line[1]
        return _on(line, passed_ns) if 0 <= passed_ns < LOOK_NS else self._look()

    def _look(self) -> int:
        """Looks at the machine's time of day, and sees to it that the time goes on from where it is."""
        with self._lock:
            passed_ns = max(0, self._steady_ns() - self._line[1])
            now_ns, steady_ns = _on(self._line, passed_ns), self._line[1] + passed_ns
            off_ns = self._wall_ns() - now_ns
            self._line = (now_ns, steady_ns, off_ns)
            if (abs(off_ns) > JUMP_NS) != self._is_off:
                self._tell(off_ns)
            return now_ns

    def _tell(self, off_ns: int) -> None:
        self._is_off = not self._is_off
        if self._is_off:
            _log.warning(
                "the machine's clock is %+.0f s off from the time this process has counted: it goes on with its own "
                "and follows slowly; restart it to take the machine's time at once",
                off_ns / 1e9,
            )
        else:
            _log.warning("the machine's clock and the time of this process are one again")


def _on(line: tuple[int, int, int], passed_ns: int) -> int:
    """The time of day ``passed_ns`` after a look: it grows by nine to eleven tenths of that."""
    now_ns, _, off_ns = line
    most_ns = passed_ns // SLEW
    if -most_ns <= off_ns <= most_ns:
        return now_ns + passed_ns + off_ns
    return now_ns + passed_ns + (most_ns if off_ns > 0 else -most_ns)
