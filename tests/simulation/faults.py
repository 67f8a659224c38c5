"""What may go wrong in a simulated world, how often, and how often it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

RATES = {
    "crash": 0.006,
    "pause": 0.004,
    "delay": 0.25,
    "lose": 0.15,
    "duplicate": 0.15,
    "reorder": 0.25,
    "store": 0.012,
    "late": 0.3,
    "model": 0.1,
    "tool": 0.15,
    "lost": 0.08,
}
SERVER_RATES = {"doubt": 0.01, "flush": 0.02, "away": 0.02}
"""Kind of fault -> chance per opportunity when a world has that kind at all.

``crash`` and ``pause``: at any call of a port. ``delay``: a call takes long. ``lose``, ``duplicate``, ``reorder``:
messages. ``store``: a read or a transaction fails. ``late``: the store's answer comes late. ``model``: a call fails and
may be tried again. ``tool``: the far side hears of a call late. ``lost``: its answer is lost. Where stores are servers:
``doubt``: a commit was made, and the answer says that nobody knows. ``flush``: the bus is emptied. ``away``: it does
not answer.
"""


@dataclass
class Faults:
    """The faults of one world. ``calm`` ends them all."""

    rng: Random
    rates: dict[str, float]
    longest_delay_s: float = 1.0
    longest_pause_s: float = 12.0
    counts: Counter[str] = field(default_factory=Counter)
    is_calm: bool = False

    def strikes(self, kind: str) -> bool:
        """Whether it goes wrong this time."""
        rate = 0.0 if self.is_calm else self.rates.get(kind, 0.0)
        if not rate or self.rng.random() >= rate:
            return False
        self.counts[kind] += 1
        return True

    def delay_s(self) -> float:
        """A moment, sometimes a long one."""
        return self.longest_delay_s * self.rng.random() ** 3

    def pause_s(self) -> float:
        """Often longer than the lease."""
        return self.longest_pause_s * self.rng.random()


def drawn(rng: Random) -> Faults:
    """The faults of a world: some kinds and not others, so that each also meets a world that is otherwise sound."""
    chosen = {kind: rate * rng.choice((0.3, 1.0, 2.0)) for kind, rate in RATES.items() if rng.random() < 0.6}
    # Of their own chance, so that worlds without them stay what they were.
    own = Random(repr(sorted(chosen.items())))
    chosen |= {kind: rate * own.choice((0.3, 1.0, 2.0)) for kind, rate in SERVER_RATES.items() if own.random() < 0.35}
    return Faults(rng=rng, rates=chosen, longest_delay_s=rng.choice((0.05, 0.5, 2.0)))


def none(rng: Random) -> Faults:
    """No faults at all."""
    return replace(drawn(rng), rates={})
