"""How much of something may be used in a time."""

from __future__ import annotations

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """``per_s`` units a second on average, and up to ``burst`` units at once."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        """Raises ValueError for a rate at which nothing could ever be taken."""
        if not (self.per_s > 0 and self.burst > 0):
            raise ValueError(f"a rate of {self.per_s} a second and {self.burst} at once lets nothing through")


def per_minute(amount: float) -> Rate:
    """``amount`` a minute, as providers count: a whole minute's worth may come at once."""
    return Rate(per_s=amount / 60.0, burst=amount)
