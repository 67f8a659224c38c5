"""Random bytes from the kernel, drawn in larger portions: a call of its own costs more than all else an id needs."""

from __future__ import annotations

import os
import threading

_PORTION = 4096


class PooledEntropy:
    """``entropy(n)`` gives n random bytes. Each byte is given out once, also after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = b""
        self._at = 0
        self._pid = 0

    def __call__(self, n: int) -> bytes:
        """Random bytes fit for keys."""
        with self._lock:
            if self._at + n > len(self._pool) or self._pid != os.getpid():
                self._pool, self._at, self._pid = os.urandom(max(_PORTION, n)), 0, os.getpid()
            taken = self._pool[self._at : self._at + n]
            self._at += n
            return taken
