"""An allowance: a rate that processes share, taken from the shared bucket by the handful.

A shared bucket costs a trip for every look. A process therefore takes a handful of units at once and hands them out by
itself; what it has not handed out it gives back when nobody has asked for a while. The bucket is never overdrawn: what
is in a process's hand is gone from it.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from collegium.domain.rate import Rate
from collegium.ports import Clock, Quota

HANDFULS: Final = 50
"""A handful is this part of the burst, and one unit at least."""
IDLE_S: Final = 5.0
_MANY: Final = 10_000


class Standing(NamedTuple):
    """How a bucket stands for whoever has just asked.

    Attributes:
        wait_s: 0.0: what was asked for was taken. Else the seconds after which to try again.
        left: Units that could be taken now, as far as this process knows.
    """

    wait_s: float
    left: float


class _Hand:
    __slots__ = ("asked_s", "closed_until_s", "left", "lock", "rate", "units")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.units = 0.0
        self.left = rate.burst
        self.closed_until_s = 0.0
        self.asked_s = 0.0
        self.lock = asyncio.Lock()


class Allowance:
    """Takes from buckets of ``quota`` by the handful.

    Args:
        quota: Where all processes take from.
        clock: Tells how long ago somebody asked.
    """

    def __init__(self, quota: Quota, *, clock: Clock) -> None:
        self._quota = quota
        self._clock = clock
        self._hands: dict[str, _Hand] = {}

    async def take(self, bucket: str, rate: Rate, amount: float) -> Standing:
        """Takes ``amount`` units. Raises ``StoreError`` where the shared bucket is away."""
        hand = self._hands.get(bucket)
        if hand is None or hand.rate != rate:
            hand = self._hands[bucket] = _Hand(rate)
        hand.asked_s = now_s = self._clock.monotonic()
        # Whoever was refused is refused again until the bucket can have filled: a storm costs no trips.
        if now_s < hand.closed_until_s:
            return Standing(hand.closed_until_s - now_s, 0.0)
        if hand.units < amount:
            async with hand.lock:
                if hand.units < amount:
                    wait_s = await self._fill(bucket, hand, amount)
                    if wait_s > 0.0:
                        hand.closed_until_s = self._clock.monotonic() + wait_s
                        return Standing(wait_s, max(0.0, hand.left + hand.units))
        hand.units -= amount
        return Standing(0.0, max(0.0, hand.left + hand.units))

    def closed_s(self, bucket: str) -> float:
        """Seconds for which whoever asks is refused because somebody was refused just now; 0.0 for nobody."""
        hand = self._hands.get(bucket)
        return 0.0 if hand is None else max(0.0, hand.closed_until_s - self._clock.monotonic())

    def give_back(self, bucket: str, amount: float) -> None:
        """What was taken is not needed after all."""
        hand = self._hands.get(bucket)
        if hand is not None:
            hand.units += amount

    async def sweep(self) -> None:
        """Gives back what nobody has asked for lately; to be called now and then."""
        before_s = self._clock.monotonic() - IDLE_S
        for bucket in [name for name, hand in self._hands.items() if hand.asked_s < before_s]:
            hand = self._hands.pop(bucket)
            if hand.units > 0.0:
                await self._quota.refund(bucket, hand.rate, hand.units)

    @property
    def is_crowded(self) -> bool:
        """Whether so many buckets are known that it is time to sweep."""
        return len(self._hands) > _MANY

    async def _fill(self, bucket: str, hand: _Hand, amount: float) -> float:
        rate, needed = hand.rate, amount - hand.units
        handful = max(needed, 1.0, rate.burst / HANDFULS)
        wait_s = await self._quota.take(bucket, rate, handful)
        if wait_s > 0.0 and handful > needed:
            # The last units are handed out one by one.
            handful = needed
            wait_s = await self._quota.take(bucket, rate, needed)
        if wait_s == 0.0:
            hand.units += handful
        hand.left = await self._quota.left(bucket, rate)
        return wait_s
