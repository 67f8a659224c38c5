"""No encryption: values are stored as they are; what somebody else has sealed is not mistaken for them."""

from __future__ import annotations

from typing import Final

from collegium.domain.errors import UsageError


class PlainSealer:
    """Implements ``Sealer`` where no key is configured."""

    is_on: Final = False

    def require(self, tenant: str) -> None:
        """Nothing is needed."""

    def seal(self, tenant: str, place: bytes, plain: bytes) -> tuple[bytes, int]:
        """``plain``, as it is."""
        return plain, 0

    def open(self, tenant: str, place: bytes, sealed: bytes) -> bytes:
        """Raises ``UsageError``: there is no key."""
        raise UsageError(
            f"the store is encrypted (what is kept of tenant {tenant!r}), and no key is configured: set [encryption] "
            "kek_file, kek_variable or kms as where it was written",
            tenant=tenant,
        )


PLAIN: Final = PlainSealer()
