"""A circuit breaker: keeps calls away from what fails anyway, and finds out when it works again."""

from __future__ import annotations

import msgspec

from collegium.ports import Clock


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``failures`` in a row open the circuit for ``cool_down_s``; then one call is let through to try."""

    failures: int = 3
    cool_down_s: float = 30.0


class Breaker:
    """The circuit of one model: closed (calls pass), open (none passes), half-open (one passes)."""

    def __init__(self, *, clock: Clock, policy: BreakerPolicy) -> None:
        self._clock = clock
        self._policy = policy
        self._failures = 0
        self._open_until: float | None = None
        self._is_probing = False

    @property
    def wait_s(self) -> float:
        """Seconds until a call may pass; 0 where one may now."""
        if self._open_until is None:
            return 0.0
        left = self._open_until - self._clock.monotonic()
        return max(left, 0.0) if not self._is_probing else max(left, 1.0)

    def enter(self) -> bool:
        """Whether a call may pass. Every call that passes ends with ``succeeded``, ``failed`` or ``left``."""
        if self._open_until is None:
            return True
        if self._is_probing or self._clock.monotonic() < self._open_until:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        """The call got an answer: the circuit is closed."""
        self._failures = 0
        self._open_until = None
        self._is_probing = False

    def failed(self) -> None:
        """The call failed; the circuit opens after enough failures in a row, and at once after a failed try."""
        self._failures += 1
        if self._is_probing or self._failures >= self._policy.failures:
            self._open_until = self._clock.monotonic() + self._policy.cool_down_s
        self._is_probing = False

    def left(self) -> None:
        """The call ended without telling anything (it was cancelled)."""
        self._is_probing = False
