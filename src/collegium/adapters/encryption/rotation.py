"""Rotation of keys and the end of them, while others read and write.

``rotate-dek``: a new version of a tenant's data key is added; everybody writes with it as soon as he hears of it. What
was sealed with older ones, or is plain, is sealed again in small transactions, each row only if nobody has changed it
meanwhile. All of what is left to do is in the rows themselves: whoever was killed is followed by whoever begins again.
Older versions stay, wrapped: backups and whoever writes late need them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from collegium.adapters.encryption.keys import ERASED, MARK, KeyRing
from collegium.adapters.sealed import DATA_KEY, opened_blob, opened_record, sealed_record
from collegium.domain.envelope import blob_place, event_place, is_sealed
from collegium.domain.errors import Conflict, Erased, NotFound

PAGE: Final = 2_000
BATCH: Final = 64
BATCH_BYTES: Final = 1024 * 1024
TABLES: Final = ("blobs", "events", "records")
Progress = Callable[[str, int], None]
"""``(table, rows sealed again so far)``."""


class Place(NamedTuple):
    """A row: its key in the table, its tenant, and the version of the key that sealed it."""

    key: tuple[Any, ...]
    tenant: str
    version: int


class Change(NamedTuple):
    """A row to be replaced, if it still is what it was."""

    key: tuple[Any, ...]
    old: bytes
    new: bytes
    version: int


class Rows(Protocol):
    """The rows of one store. Blocking; each ``replace`` is a transaction of its own."""

    def places(self, table: str, after: tuple[Any, ...] | None, limit: int, tenant: str | None) -> list[Place]:
        """The next rows by key that hold something. Raises ``StoreError``."""

    def value(self, table: str, key: tuple[Any, ...]) -> bytes | None:
        """What the row holds; None where it is gone."""

    def replace(self, table: str, changes: Sequence[Change]) -> int:
        """How many were still what they were, and are replaced."""

    def close(self) -> None:
        """Closes it; twice is harmless."""


class Rotated(NamedTuple):
    """What came of a rotation: rows sealed again, tenants, and passes over all rows."""

    rows: int
    tenants: tuple[str, ...]
    passes: int


class Rotation:
    """Seals everything of one or all tenants with new data keys.

    Args:
        ring: The keys.
        stores: Every store that holds what they have sealed.
        pause_s: Rest after each transaction, for those who work.
        sleep: How it rests.
    """

    def __init__(
        self,
        ring: KeyRing,
        stores: Sequence[Rows],
        *,
        pause_s: float = 0.002,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ring = ring
        self._stores = stores
        self._pause_s = pause_s
        self._sleep = sleep
        self._targets: dict[str, int] = {}
        self._erased: dict[str, int] = {}
        self._begun_us = 0

    def run(self, tenant: str | None, progress: Progress = lambda table, done: None) -> Rotated:
        """Rotates; goes on with a rotation that was interrupted. Raises ``StoreError``."""
        if tenant is not None:
            self._begin(tenant)
        settle_us = int((2 * self._ring.refresh_s + 0.1) * 1_000_000)
        done = passes = 0
        while True:
            # Others may write with the older key until they have heard of the new one.
            is_settled = self._ring.now_us() >= self._begun_us + settle_us
            known = len(self._targets)
            changed = sum(self._pass(store, tenant, progress) for store in self._stores)
            done, passes = done + changed, passes + 1
            if is_settled and known == len(self._targets) and not changed:
                break
            if (left := self._begun_us + settle_us - self._ring.now_us()) > 0:
                self._sleep(left / 1_000_000)
        for name, version in self._targets.items():
            self._end(name, version)
        return Rotated(done, tuple(sorted(self._targets)), passes)

    def _pass(self, store: Rows, tenant: str | None, progress: Progress) -> int:
        done = 0
        for table in TABLES:
            after: tuple[Any, ...] | None = None
            while page := store.places(table, after, PAGE, tenant):
                after = page[-1].key
                stale = [place for place in page if self._is_stale(table, place)]
                done += self._seal_again(store, table, stale)
                progress(table, done)
                self._sleep(self._pause_s)
        return done

    def _is_stale(self, table: str, place: Place) -> bool:
        if table == "records" and place.key[0] == DATA_KEY:
            return False
        if place.tenant not in self._targets:
            self._begin(place.tenant)
        if 0 < place.version <= self._erased[place.tenant]:
            return False
        return place.version != self._targets[place.tenant]

    def _seal_again(self, store: Rows, table: str, places: Sequence[Place]) -> int:
        done = size = 0
        batch: list[Change] = []
        for place in places:
            change = self._change(store, table, place)
            if change is None:
                continue
            batch.append(change)
            size += len(change.new)
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                done += store.replace(table, batch)
                batch, size = [], 0
                self._sleep(self._pause_s)
        return done + (store.replace(table, batch) if batch else 0)

    def _change(self, store: Rows, table: str, place: Place) -> Change | None:
        old = store.value(table, place.key)
        if old is None:
            return None
        try:
            new, version = self._sealed_again(table, place, old)
        except Erased:
            return None
        return Change(place.key, old, new, version)

    def _sealed_again(self, table: str, place: Place, old: bytes) -> tuple[bytes, int]:
        ring, tenant = self._ring, place.tenant
        if table == "records":
            kind, _, key = place.key
            return sealed_record(ring, kind, tenant, key, opened_record(ring, kind, tenant, key, old))
        if table == "blobs":
            name = place.key[1]
            return ring.seal(tenant, blob_place(tenant, name), opened_blob(ring, tenant, name, old))
        run, seq = place.key[-2:]
        where = event_place(tenant, run, seq)
        return ring.seal(tenant, where, ring.open(tenant, where, old) if is_sealed(old) else old)

    def _begin(self, tenant: str) -> None:
        """Adds a version, unless one is there that an interrupted rotation has added."""
        while True:
            keys = self._ring.stored(tenant)
            newest = keys.wrapped.get(keys.current)
            if newest is None or newest["state"] != "filling":
                if not self._ring.add(tenant, keys.newest + 1, state="filling"):
                    continue  # somebody else was quicker
                keys = self._ring.stored(tenant)
                newest = keys.wrapped[keys.current]
            break
        self._ring.require(tenant)
        self._targets[tenant] = keys.current
        self._erased[tenant] = keys.erased_through
        self._begun_us = max(self._begun_us, int(newest["at_us"]))

    def _end(self, tenant: str, version: int) -> None:
        value = self._ring.stored(tenant).wrapped.get(version)
        if value is not None:
            self._ring.shelf.change(tenant, f"{version:08}", {**value, "state": "whole"})


def rewrap(ring: KeyRing) -> int:
    """Wraps every data key with the present key of keys; how many were wrapped by another one.

    What the data keys have sealed is not touched. Interrupted, the same again goes on.
    """
    count = 0
    for tenant in ring.shelf.tenants():
        for version, value in sorted(ring.stored(tenant).wrapped.items()):
            if value["kek"] != ring.kek.id:
                plain = ring.unwrapped(tenant, value)
                ring.shelf.change(tenant, f"{version:08}", {**value, **ring.wrapping(tenant, version, plain)})
                count += 1
    return count


def plain_rows(stores: Sequence[Rows], tenant: str) -> int:
    """How many rows of a tenant are stored in plain."""
    count = 0
    for store in stores:
        for table in TABLES:
            after: tuple[Any, ...] | None = None
            while page := store.places(table, after, PAGE, tenant):
                after = page[-1].key
                count += sum(place.version == 0 and place.key[0] != DATA_KEY for place in page)
    return count


def shred(ring: KeyRing, tenant: str) -> int:
    """Destroys the data keys of a tenant; how many there were. Nobody can undo it.

    Other processes forget them within ``refresh_s``. Raises ``NotFound`` where there are none, ``Conflict`` where a
    rotation adds keys meanwhile.
    """
    keys = ring.stored(tenant)
    if tenant == MARK or not keys.wrapped:
        raise NotFound(f"tenant {tenant!r} has no data keys: nothing of it is encrypted", tenant=tenant)
    ring.shelf.drop(tenant, ERASED, {"through": keys.newest, "at_us": ring.now_us()})
    ring.forget(tenant)
    if ring.stored(tenant).wrapped:
        raise Conflict(f"somebody added keys of tenant {tenant!r} meanwhile: shred it again", tenant=tenant)
    return len(keys.wrapped)
