"""Access: the rooms of a Collegium as one principal may use them."""

from __future__ import annotations

from functools import cached_property

from collegium.app import Collegium
from collegium.domain.principal import Principal
from collegium.server.access.audit import AuditAccess
from collegium.server.access.documents import DocumentAccess
from collegium.server.access.live import LiveAccess
from collegium.server.access.questions import QuestionAccess
from collegium.server.access.runs import RunAccess


class Access:
    """What ``principal`` may see and do of ``app``; made for each request, and cheap.

    Every method of every part first asks for the scope that it needs, and passes the principal's tenant on: nothing
    that a face does is done without.
    """

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self.principal = principal

    @cached_property
    def runs(self) -> RunAccess:
        """Runs: submit, look, stop."""
        return RunAccess(self._app, self.principal)

    @cached_property
    def audit(self) -> AuditAccess:
        """Who did what, and whether all of it is as it was written."""
        return AuditAccess(self._app, self.principal)

    @cached_property
    def live(self) -> LiveAccess:
        """What happens, while it happens."""
        return LiveAccess(self._app, self.principal)

    @cached_property
    def documents(self) -> DocumentAccess:
        """What runs were given to read."""
        return DocumentAccess(self._app, self.principal)

    @cached_property
    def questions(self) -> QuestionAccess:
        """What runs ask people."""
        return QuestionAccess(self._app, self.principal)
