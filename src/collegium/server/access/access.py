"""Access: the rooms of a Collegium as one principal may use them."""

from __future__ import annotations

from functools import cached_property

from collegium.app import Collegium
from collegium.domain.principal import Principal
from collegium.runtime.keys import Keys
from collegium.server.access.audit import AuditAccess
from collegium.server.access.conversations import ConversationAccess
from collegium.server.access.documents import DocumentAccess
from collegium.server.access.keys import KeyAccess
from collegium.server.access.live import LiveAccess
from collegium.server.access.privacy import PrivacyAccess, PrivacyOf
from collegium.server.access.questions import QuestionAccess
from collegium.server.access.runs import RunAccess
from collegium.server.access.uploads import UploadAccess
from collegium.server.access.webhooks import WebhookAccess
from collegium.server.live.hub import Hub


class Access:
    """What ``principal`` may see and do of ``app``; made for each request, and cheap.

    Every method of every part first asks for the scope that it needs, and passes the principal's tenant on: nothing
    that a face does is done without.
    """

    def __init__(
        self,
        app: Collegium,
        principal: Principal,
        *,
        keys: Keys | None = None,
        hub: Hub | None = None,
        privacy_of: PrivacyOf | None = None,
    ) -> None:
        self._app = app
        self.principal = principal
        self._keys = keys
        self._privacy_of = privacy_of
        self._hub = hub

    @cached_property
    def runs(self) -> RunAccess:
        """Runs: submit, look, stop."""
        return RunAccess(self._app, self.principal)

    @cached_property
    def uploads(self) -> UploadAccess:
        """Files that were handed over for goals to come."""
        return UploadAccess(self._app, self.principal)

    @cached_property
    def audit(self) -> AuditAccess:
        """Who did what, and whether all of it is as it was written."""
        return AuditAccess(self._app, self.principal)

    @cached_property
    def keys(self) -> KeyAccess:
        """API keys."""
        return KeyAccess(self._app, self.principal, self._keys)

    @cached_property
    def privacy(self) -> PrivacyAccess:
        """What is held of a principal: export it, erase it."""
        return PrivacyAccess(self._app, self.principal, self._privacy_of)

    @cached_property
    def live(self) -> LiveAccess:
        """What happens, while it happens."""
        return LiveAccess(self._hub or Hub(self._app), self.principal)

    @cached_property
    def documents(self) -> DocumentAccess:
        """What runs were given to read."""
        return DocumentAccess(self._app, self.principal)

    @cached_property
    def questions(self) -> QuestionAccess:
        """What runs ask people."""
        return QuestionAccess(self._app, self.principal)

    @cached_property
    def conversations(self) -> ConversationAccess:
        """Runs that ask on from each other."""
        return ConversationAccess(self._app, self.principal)

    @cached_property
    def webhooks(self) -> WebhookAccess:
        """Addresses that are told of events."""
        return WebhookAccess(self._app, self.principal)
