"""The audience: how many sockets and streams there are, of each caller and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from collegium.domain.errors import RateLimited
from collegium.domain.principal import Principal

MOST: Final = 10_000
MOST_OF_ONE: Final = 200
MOST_UNKNOWN: Final = 200
"""Sockets that have not said yet who they are."""
AGAIN_S: Final = 5.0


class Audience:
    """Counts who looks on, and takes no more than there is room for."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many look on."""
        return self._count.total()

    @contextmanager
    def seat(self, principal: Principal | None) -> Iterator[None]:
        """One more, as long as the block lasts; None: nobody knows who. Raises ``RateLimited``."""
        name = "" if principal is None else principal.credential or principal.id
        most = MOST_UNKNOWN if principal is None else MOST_OF_ONE
        is_full = len(self) >= MOST
        # Whoever uses this machine alone harms nobody else.
        is_many = self._count[name] >= most and (principal is None or principal.kind != "local")
        if is_full or is_many:
            whose = "in all" if is_full else "that have not said who they are" if principal is None else f"of {name}"
            raise RateLimited(
                f"there are {MOST if is_full else most:,} sockets and streams {whose} already: close one of them",
                retry_after_s=AGAIN_S,
                limit="audience",
            )
        self._count[name] += 1
        try:
            yield
        finally:
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
