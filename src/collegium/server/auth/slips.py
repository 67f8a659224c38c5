"""Slips: secrets that stand for a principal for a while, such as sessions and tickets.

What is kept of one is an HMAC of its text: whoever reads the store cannot use it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from collegium.domain.errors import Conflict
from collegium.domain.principal import Principal
from collegium.domain.record import Condition, Record
from collegium.ports import Clock, Records

TENANT: Final = "~slips"
FRESH_S: Final = 1.0
MAX_CHARS: Final = 100
_SWEEP: Final = 100
_MANY: Final = 10_000


class Slip(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one; ``expires_us`` is ``expires_at`` as a number, for looking up."""

    principal: Principal
    made_at: datetime
    expires_at: datetime
    expires_us: int


class NewSlip(NamedTuple):
    """A slip with its text, which nobody else knows."""

    text: str
    digest: str
    slip: Slip


class Slips:
    """The slips of one kind.

    Args:
        records: Where they are kept.
        kind: Of the records.
        clock: Tells which are over.
        pepper: What the HMACs are made with.
        entropy: ``entropy(n)`` returns n random bytes.
    """

    def __init__(
        self, records: Records, kind: str, *, clock: Clock, pepper: bytes, entropy: Callable[[int], bytes]
    ) -> None:
        self._records = records
        self._kind = kind
        self._clock = clock
        self._secret = hmac.digest(pepper, kind.encode(), hashlib.sha256)
        self._entropy = entropy
        self._looks: dict[str, tuple[Slip, float]] = {}

    async def make(self, principal: Principal, life_s: float) -> NewSlip:
        """A new slip that stands for ``principal`` so long, and not longer than it may; sweeps some that are over."""
        now = self._clock.now()
        expires_at = now + timedelta(seconds=life_s)
        if principal.expires_at is not None:
            expires_at = min(expires_at, principal.expires_at)
        # clgs_, clgt_: whatever takes keys out of logs knows it by that too.
        text = f"clg{self._kind[0]}_{base64.urlsafe_b64encode(self._entropy(32)).rstrip(b'=').decode()}"
        slip = Slip(principal=principal, made_at=now, expires_at=expires_at, expires_us=_us(expires_at))
        digest = self.digest(text)
        await self._records.put(
            Record(kind=self._kind, tenant=TENANT, key=digest, value=msgspec.to_builtins(slip)), expected=0
        )
        await self._sweep(now)
        return NewSlip(text, digest, slip)

    async def find(self, digest: str) -> Slip | None:
        """The slip, as long as it holds; a look is believed for a second."""
        now_s = self._clock.monotonic()
        slip, at_s = self._looks.get(digest, (None, 0.0))
        if slip is None or now_s - at_s > FRESH_S:
            record = await self._records.get(self._kind, TENANT, digest)
            if record is None:
                self._looks.pop(digest, None)
                return None
            slip = msgspec.convert(record.value, Slip)
            while len(self._looks) >= _MANY:
                del self._looks[next(iter(self._looks))]
            self._looks[digest] = (slip, now_s)
        return slip if slip.expires_at > self._clock.now() else None

    async def take(self, text: str) -> Slip | None:
        """The slip, which holds no longer: of several who take it at the same time one gets it."""
        digest = self.digest(text)
        record = await self._records.get(self._kind, TENANT, digest)
        if record is None:
            return None
        try:
            is_mine = await self._records.delete(self._kind, TENANT, digest, expected=record.version)
        except Conflict:
            return None
        slip = msgspec.convert(record.value, Slip)
        return slip if is_mine and slip.expires_at > self._clock.now() else None

    async def drop(self, digest: str) -> None:
        """Lets it hold no longer; one that is not there is no error."""
        self._looks.pop(digest, None)
        await self._records.delete(self._kind, TENANT, digest)

    def digest(self, text: str) -> str:
        """What a slip is kept by."""
        return hmac.digest(self._secret, text[:MAX_CHARS].encode(), hashlib.sha256).hex()

    async def _sweep(self, now: datetime) -> None:
        over = [Condition(field="expires_us", op="<=", value=_us(now))]
        for record in await self._records.find(self._kind, TENANT, over, limit=_SWEEP):
            with suppress(Conflict):
                await self._records.delete(self._kind, TENANT, record.key, expected=record.version)


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
