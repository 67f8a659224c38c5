"""What encrypts what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class KeyEncryption(Protocol):
    """A key that encrypts keys: in a file, in the environment, or in a service that never gives it away.

    Called from threads, a few times per tenant and process; it may block for a moment.
    """

    @property
    def id(self) -> str:
        """Tells this key from others and gives nothing away of it; stored beside what it has wrapped."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """``key`` encrypted, bound to ``context``. Raises ``StoreUnavailable``, ``UsageError``."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """What was wrapped. Raises ``StoreCorrupt`` where it was not wrapped by this key for this context."""


class Sealer(Protocol):
    """Encrypts stored values per tenant. Safe to be called from several threads."""

    @property
    def is_on(self) -> bool:
        """Whether anything is encrypted that is written now."""

    def require(self, tenant: str) -> None:
        """Has a key ready for what is about to be written. Raises ``StoreError``."""

    def seal(self, tenant: str, place: bytes, plain: bytes) -> tuple[bytes, int]:
        """The stored form of ``plain`` and the version of the key; as it is, and 0, where nothing is encrypted."""

    def open(self, tenant: str, place: bytes, sealed: bytes) -> bytes:
        """What was sealed at ``place``. Raises ``Erased``, ``StoreCorrupt``, ``UsageError``."""


class KeyShelf(Protocol):
    """Where wrapped keys are kept, beside the data that they encrypt. Blocking, from any thread."""

    def keys(self, tenants: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
        """``(tenant, key, value)`` of all rows of these tenants. Raises ``StoreError``."""

    def tenants(self) -> list[str]:
        """All tenants that have, or had, keys."""

    def add(self, tenant: str, key: str, value: dict[str, Any]) -> bool:
        """Stores a row; False where there is one already."""

    def change(self, tenant: str, key: str, value: dict[str, Any]) -> None:
        """Replaces a row that is there."""

    def drop(self, tenant: str, keep: str, value: dict[str, Any]) -> int:
        """Leaves of the tenant's rows only ``keep`` with ``value``, at once and for good; how many were removed.

        Records of the tenant that are sealed, which nobody can read any more, go with them.
        """

    def close(self) -> None:
        """Gives its connections back; twice is harmless."""
