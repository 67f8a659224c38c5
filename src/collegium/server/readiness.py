"""Readiness: whether this process can do what it is asked for, and what it lacks if not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from collegium.domain.errors import CollegiumError
from collegium.ports import Clock

FRESH_S = 1.0
"""A look is believed for so long: probes and load balancers cost the stores nothing."""
ANSWER_S = 2.0
"""What does not answer within this time counts as away."""


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is needed and not there."""

    what: str
    why: str


Look = Callable[[], Awaitable[Sequence[Away]]]


class Readiness:
    """What is away, as of at most a second ago.

    Args:
        looks: Each says what is away of its own part; by the name of the part, for one that does not answer at all.
        clock: Tells how old a look is.

    Attributes:
        is_draining: Set when the process is about to end: it is not ready from then on, whatever the looks say.
    """

    def __init__(self, looks: Mapping[str, Look], *, clock: Clock) -> None:
        self._looks = looks
        self._clock = clock
        self._away: tuple[Away, ...] = ()
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self.is_draining = False

    async def away(self) -> tuple[Away, ...]:
        """Everything that is needed and not there; empty when the process is ready."""
        if self.is_draining:
            return (Away(what="process", why="it ends what it does and takes nothing new"),)
        async with self._looking:
            if self._clock.monotonic() - self._looked_s >= FRESH_S:
                found = await asyncio.gather(*(self._ask(part, look) for part, look in self._looks.items()))
                self._away = tuple(one for away in found for one in away)
                self._looked_s = self._clock.monotonic()
        return self._away

    def forget(self) -> None:
        """Something has changed: whoever asks next makes a new look."""
        self._looked_s = float("-inf")

    async def _ask(self, part: str, look: Look) -> Sequence[Away]:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await look()
        except TimeoutError:
            return (Away(what=part, why=f"it has not answered within {ANSWER_S:g} s"),)
        except CollegiumError as error:
            return (Away(what=part, why=error.message),)
