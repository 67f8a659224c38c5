"""What is held of a principal, as those may export and erase it who look after privacy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec

from collegium.app import Collegium
from collegium.domain.deed import Deed
from collegium.domain.errors import UsageError
from collegium.domain.principal import Principal
from collegium.runtime.privacy import Erased, Privacy, proof_of
from collegium.server.access.deeds import noted
from collegium.server.access.reach import Reach

PrivacyOf = Callable[[Collegium], Privacy]
_RULE = "privacy:write"


class ErasureProof(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and the line of the administrative log that says so; its ``mac`` is under the chain key."""

    erased: Erased
    deed: Deed


class PrivacyAccess:
    """Subjects of the principal's tenant."""

    def __init__(self, app: Collegium, principal: Principal, privacy_of: PrivacyOf | None) -> None:
        self._app = app
        self._principal = principal
        self._privacy_of = privacy_of

    async def export(self, subject: str) -> AsyncIterator[bytes]:
        """Everything that is held of ``subject``, one JSON document a line; the log says who took it."""
        privacy = self._privacy()
        await noted(self._app, self._principal, "privacy.exported", subject, rule=_RULE)
        return privacy.export(self._principal.tenant, subject)

    async def erase(self, subject: str, *, reason: str = "") -> ErasureProof:
        """Removes it. Raises ``Conflict`` while runs of ``subject`` go on; then nothing was removed."""
        erased = await self._privacy().erase(self._principal.tenant, subject)
        deed = await noted(
            self._app, self._principal, "privacy.erased", subject, rule=_RULE, reason=reason, details=proof_of(erased)
        )
        return ErasureProof(erased=erased, deed=deed)

    def _privacy(self) -> Privacy:
        self._principal.require(_RULE)
        Reach(self._app, self._principal).all()
        if self._privacy_of is None:
            raise UsageError("nothing is exported or erased here: use `collegium privacy` on the host")
        return self._privacy_of(self._app)
