"""Wishes: what those who look on, in any process, want to be told. Nobody is told anything that nobody wants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from collegium.domain.errors import CollegiumError
from collegium.domain.message import Message
from collegium.ports import Bus, Clock

TOPIC: Final = "views.wanted"
NOBODY: Final = "-"
"""The tenant of messages that are between processes: no principal has it."""
COUNTS_S: Final = 15.0
"""So long a wish counts; it is said again in time."""
LOOK_S: Final = 1.0
_log = logging.getLogger("collegium.wishes")


class Wishes:
    """What is wanted, as far as is known: looked up at most once a second, and only while somebody asks.

    Args:
        bus: What processes have in common.
        clock: Tells when to look again.
    """

    def __init__(self, bus: Bus, *, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._is_any = False
        self._runs: frozenset[str] = frozenset()
        self._looked_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def is_any(self) -> bool:
        """Whether anybody looks on, at anything. Nobody is waited for to find out."""
        self._look_again()
        return self._is_any

    def has(self, run: str) -> bool:
        """Whether somebody wants to hear what models say in ``run``."""
        self._look_again()
        return run in self._runs

    def _look_again(self) -> None:
        if self._looking is None and self._clock.monotonic() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock.monotonic()
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            said = await self._bus.read(TOPIC, since=self._clock.now() - timedelta(seconds=COUNTS_S))
            self._is_any = bool(said)
            self._runs = frozenset(str(run) for one in said for run in one.body.get("runs", ()))
        except (CollegiumError, OSError) as error:
            self._is_any, self._runs = False, frozenset()
            _log.info("it is not known who looks on: %s", error)
        finally:
            self._looking = None


async def wish(bus: Bus, *, id_: str, runs: Collection[str], now: datetime) -> None:
    """Says that somebody looks on, and wants to hear what models say in ``runs``, for the next ``COUNTS_S``.

    Args:
        bus: Where it is said.
        id_: Of the message, unlike any other.
        runs: Perhaps none.
        now: The time.

    Raises:
        StoreError: the bus is away.
    """
    expires_at = now + timedelta(seconds=COUNTS_S)
    body = {"runs": sorted(runs)}
    await bus.publish(Message(id=id_, topic=TOPIC, tenant=NOBODY, body=body, expires_at=expires_at))
