"""Ids: prefixed, sortable by time, made by an injected source."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Final

PREFIXES: Final = frozenset({"run", "evt", "msg", "apr", "wrk", "mem", "doc", "acct", "sch", "upl", "whk"})
_RUN = re.compile(r"run_[0-9a-f]{34}\Z")


class Ids:
    """Makes UUIDv7 ids; two ids of one source never repeat and sort in the order they were made.

    Args:
        now_ms: Unix time in milliseconds. Injected, so that tests and simulations repeat.
        entropy: ``entropy(n)`` returns n random bytes.
        place: ``place(digits)`` chooses the shard of a new run by the 32 digits of its id.

    Source: RFC 9562, section 5.7, with the counter of section 6.2 method 1 in ``rand_a``.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        place: Callable[[str], int] = lambda digits: 0,
    ) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._place = place
        self._last_ms = 0
        self._counter = 0
        self._lock = threading.Lock()

    def uuid7(self) -> str:
        """32 hexadecimal digits."""
        with self._lock:
            now = self._now_ms()
            if now > self._last_ms:
                self._last_ms, self._counter = now, 0
            else:
                # Same millisecond or a clock that went back: count on, and borrow from the future when full.
                self._counter += 1
                if self._counter > 0xFFF:
                    self._last_ms, self._counter = self._last_ms + 1, 0
            stamp, counter = self._last_ms, self._counter
        rand_b = int.from_bytes(self._entropy(8), "big") & ((1 << 62) - 1)
        return f"{(stamp << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | rand_b:032x}"

    def new(self, prefix: str) -> str:
        """An id such as ``evt_0199...``; ``prefix`` is one of ``PREFIXES``."""
        if prefix not in PREFIXES or prefix == "run":
            raise ValueError(f"no id starts with {prefix!r}; the prefixes are {sorted(PREFIXES - {'run'})}")
        return f"{prefix}_{self.uuid7()}"

    def run(self, shard: int | None = None) -> str:
        """A run id: UUIDv7 and, in its last two digits, the shard whose store holds the run (0 to 255)."""
        digits = self.uuid7()
        shard = self._place(digits) if shard is None else shard
        if not 0 <= shard <= 0xFF:
            raise ValueError(f"shard {shard} is outside 0..255")
        return f"run_{digits}{shard:02x}"


def is_run_id(text: str) -> bool:
    """Whether ``text`` has the form of a whole run id."""
    return _RUN.match(text) is not None


def shard_of(run: str) -> int:
    """The shard that holds ``run``. Raises ValueError for anything that is no run id."""
    if not is_run_id(run):
        raise ValueError(f"{run!r} is no run id: run_ and 34 hexadecimal digits")
    return int(run[-2:], 16)
