"""Data keys: a tenant's keys, by version, kept wrapped beside the data and unwrapped in memory while they are used.

Every process looks now and then whether keys were added or destroyed, in a thread: nobody waits for it. Whoever rotates
keys therefore waits as long before he calls it done, and a key that was destroyed is forgotten everywhere in that time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

from collegium.adapters.encryption.aes_gcm import KEY_BYTES, DataKey, Entropy, check_key
from collegium.domain.envelope import take_apart
from collegium.domain.errors import CollegiumError, Erased, StoreCorrupt, StoreUnavailable, UsageError
from collegium.ports import KeyEncryption, KeyShelf

ERASED: Final = "erased"
"""Key of the row that is left of a tenant whose data keys were destroyed."""
REFRESH_S: Final = 5.0
_log = logging.getLogger("collegium.encryption")


class TenantKeys:
    """A tenant's keys as they are stored, unwrapped when they are needed."""

    def __init__(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        self.wrapped: dict[int, dict[str, Any]] = {}
        self.erased_through = 0
        self.ready: dict[int, DataKey] = {}
        for key, value in rows:
            if key == ERASED:
                self.erased_through = int(value["through"])
            else:
                self.wrapped[int(value["version"])] = value
        self.current = max(self.wrapped, default=0)

    @property
    def newest(self) -> int:
        """The highest version that there ever was."""
        return max(self.current, self.erased_through)


class KeyRing:
    """Implements ``Sealer``; makes a tenant's first data key when it is first written for.

    Args:
        kek: Wraps new data keys.
        shelf: Where wrapped keys are kept.
        previous: Keys that may have wrapped older data keys.
        entropy: Source of keys and nonces.
        now_us: Time of day in microseconds.
        refresh_s: How long it may take until this process knows of a new key, or of one that was destroyed.
    """

    is_on: Final = True

    def __init__(
        self,
        kek: KeyEncryption,
        shelf: KeyShelf,
        *,
        previous: Sequence[KeyEncryption] = (),
        entropy: Entropy = os.urandom,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.kek = kek
        self.shelf = shelf
        self.refresh_s = refresh_s
        self.now_us = now_us
        self._keks = {one.id: one for one in (*previous, kek)}
        self._entropy = entropy
        self._tenants: dict[str, TenantKeys] = {}
        self._lock = threading.Lock()
        self._refreshed = time.monotonic()
        self._refresher = ThreadPoolExecutor(1, thread_name_prefix="data keys")
        self._is_refreshing = False

    def require(self, tenant: str) -> None:
        """Has the tenant's newest key ready. Blocks for a moment where this process has not written for it before."""
        self._look_now_and_then()
        keys = self._tenants.get(tenant)
        if keys is None or keys.current not in keys.ready:
            self._current(tenant)

    def seal(self, tenant: str, place: bytes, plain: bytes) -> tuple[bytes, int]:
        """The envelope, and the version of the key."""
        keys = self._tenants.get(tenant)
        key = None if keys is None else keys.ready.get(keys.current)
        if key is None:
            key = self._current(tenant, may_make=False)  # in the middle of a transaction
        return key.seal(place, plain), key.version

    def open(self, tenant: str, place: bytes, sealed: bytes) -> bytes:
        """What was sealed. Raises ``Erased``, ``StoreCorrupt``, ``UsageError`` (it was another key that wrapped it)."""
        self._look_now_and_then()
        envelope = take_apart(sealed)
        keys = self._tenants.get(tenant)
        key = None if keys is None else keys.ready.get(envelope.version)
        if key is None:
            key = self._found(tenant, envelope.version)
        return key.open(place, envelope)

    def stored(self, tenant: str) -> TenantKeys:
        """The tenant's keys as they are on the shelf now; this process goes on with them."""
        with self._lock:
            return self._load(tenant)

    def add(self, tenant: str, version: int, *, state: Literal["whole", "filling"]) -> bool:
        """Makes a data key of this version; False where somebody has made it meanwhile."""
        plain = check_key(self._entropy(KEY_BYTES), "the source of entropy")
        value = {"version": version, "at_us": self.now_us(), "state": state, **self.wrapping(tenant, version, plain)}
        if not self.shelf.add(tenant, f"{version:08}", value):
            return False
        if tenant != MARK:
            self.shelf.add(MARK, "on", {"at_us": self.now_us()})
        return True

    def wrapping(self, tenant: str, version: int, plain: bytes) -> dict[str, Any]:
        """What is stored of a data key, by the present key of keys."""
        wrapped = self.kek.wrap(plain, _context(tenant, version))
        return {"kek": self.kek.id, "wrapped": b64encode(wrapped).decode()}

    def unwrapped(self, tenant: str, value: dict[str, Any]) -> bytes:
        """The data key itself. Raises ``StoreCorrupt``, ``UsageError``."""
        kek = self._keks.get(str(value.get("kek")))
        if kek is None:
            raise UsageError(
                f"the data keys of tenant {tenant!r} were wrapped by the key {value.get('kek')}, and [encryption] "
                f"gives {', '.join(self._keks)}: it is the wrong key. Put the right one back, or name it in "
                "previous_kek_files",
                tenant=tenant,
                kek=value.get("kek"),
            )
        try:
            wrapped = b64decode(value["wrapped"], validate=True)
        except (KeyError, ValueError, TypeError) as error:
            raise StoreCorrupt(f"a data key of tenant {tenant!r} cannot be read", tenant=tenant) from error
        return check_key(kek.unwrap(wrapped, _context(tenant, int(value["version"]))), kek.id)

    def forget(self, tenant: str) -> None:
        """Forgets what is in memory of a tenant's keys."""
        with self._lock:
            self._tenants.pop(tenant, None)

    def close(self) -> None:
        """Gives the shelf back; twice is harmless."""
        self._refresher.shutdown(wait=True, cancel_futures=True)
        self.shelf.close()
        self._tenants.clear()

    def _current(self, tenant: str, *, may_make: bool = True) -> DataKey:
        with self._lock:
            keys = self._load(tenant)
            if keys.current == 0 and not may_make:
                raise StoreUnavailable(f"the data keys of tenant {tenant!r} were just destroyed: try again")
            while keys.current == 0:
                self.add(tenant, keys.newest + 1, state="whole")
                keys = self._load(tenant)
            return self._ready(tenant, keys, keys.current)

    def _found(self, tenant: str, version: int) -> DataKey:
        with self._lock:
            keys = self._tenants.get(tenant)
            if keys is None or version not in keys.wrapped:
                keys = self._load(tenant)
            if version in keys.wrapped:
                return self._ready(tenant, keys, version)
        if version <= keys.erased_through:
            raise Erased(
                f"it was erased: the data keys of tenant {tenant!r} were destroyed, nobody can read it any more",
                tenant=tenant,
                erased=True,
            )
        raise StoreCorrupt(
            f"data key {version} of tenant {tenant!r} is missing: restore the store's records from a backup",
            tenant=tenant,
            key_version=version,
        )

    def _ready(self, tenant: str, keys: TenantKeys, version: int) -> DataKey:
        if version not in keys.ready:
            plain = self.unwrapped(tenant, keys.wrapped[version])
            keys.ready[version] = DataKey(plain, version, entropy=self._entropy)
        return keys.ready[version]

    def _load(self, tenant: str) -> TenantKeys:
        self._take([tenant], self.shelf.keys([tenant]))
        return self._tenants[tenant]

    def _take(self, tenants: Sequence[str], rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        for tenant in tenants:
            keys = TenantKeys((key, value) for owner, key, value in rows if owner == tenant)
            before = self._tenants.get(tenant)
            if before is not None:
                keys.ready |= {n: key for n, key in before.ready.items() if n in keys.wrapped}
            if keys.current and keys.current not in keys.ready and before is not None and before.ready:
                self._ready(tenant, keys, keys.current)  # here, where nobody waits for it
            self._tenants[tenant] = keys

    def _look_now_and_then(self) -> None:
        if time.monotonic() - self._refreshed < self.refresh_s or self._is_refreshing:
            return
        self._is_refreshing = True
        try:
            self._refresher.submit(self._refresh)
        except RuntimeError:  # closed
            self._is_refreshing = False

    def _refresh(self) -> None:
        try:
            tenants = list(self._tenants)
            rows = self.shelf.keys(tenants)
            with self._lock:
                self._take(tenants, rows)
            self._refreshed = time.monotonic()
        except CollegiumError as error:
            self._refreshed = time.monotonic()
            _log.warning("the data keys could not be looked at, those that are known stay in use: %s", error)
        finally:
            self._is_refreshing = False


MARK: Final = "~"
"""Tenant of the row that says that the store holds data keys."""


def _context(tenant: str, version: int) -> bytes:
    return "\0".join(("collegium data key", tenant, str(version))).encode()
