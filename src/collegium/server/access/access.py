"""Access: the rooms of a Collegium as one principal may use them."""

from __future__ import annotations

from functools import cached_property

from collegium.app import Collegium
from collegium.domain.principal import Principal
from collegium.runtime.keys import Keys
from collegium.server.access.audit import AuditAccess
from collegium.server.access.collections import CollectionAccess
from collegium.server.access.conversations import ConversationAccess
from collegium.server.access.documents import DocumentAccess
from collegium.server.access.exports import ExportAccess, ExportOf
from collegium.server.access.installation import InstallationAccess, SettingsOf
from collegium.server.access.keys import KeyAccess
from collegium.server.access.live import LiveAccess
from collegium.server.access.models import ModelAccess, ModelsOf
from collegium.server.access.privacy import PrivacyAccess, PrivacyOf
from collegium.server.access.questions import QuestionAccess
from collegium.server.access.runs import RunAccess
from collegium.server.access.schedules import ScheduleAccess
from collegium.server.access.stops import StopAccess
from collegium.server.access.topics import TopicAccess
from collegium.server.access.uploads import UploadAccess
from collegium.server.access.usage import UsageAccess
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
        settings_of: SettingsOf | None = None,
        models_of: ModelsOf | None = None,
        export_of: ExportOf | None = None,
    ) -> None:
        self._app = app
        self.principal = principal
        self._keys = keys
        self._privacy_of = privacy_of
        self._settings_of = settings_of
        self._models_of = models_of
        self._export_of = export_of
        self._hub = hub

    @property
    def runs(self) -> RunAccess:
        """Runs: submit, look, stop."""
        return RunAccess(self._app, self.principal, None if self._hub is None else self._hub.snapshots)

    @cached_property
    def exports(self) -> ExportAccess:
        """Runs as files, and what they are held against."""
        return ExportAccess(self._app, self.principal, self.runs, self._export_of)

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

    @cached_property
    def schedules(self) -> ScheduleAccess:
        """Goals that come again."""
        return ScheduleAccess(self._app, self.principal)

    @cached_property
    def stops(self) -> StopAccess:
        """Kill switches."""
        return StopAccess(self._app, self.principal)

    @cached_property
    def topics(self) -> TopicAccess:
        """Messages on the bus, and those that nobody could deal with."""
        return TopicAccess(self._app, self.principal)

    @cached_property
    def installation(self) -> InstallationAccess:
        """Workers, agents, tools and settings."""
        return InstallationAccess(self._app, self.principal, self._settings_of)

    @cached_property
    def models(self) -> ModelAccess:
        """Models that goals and agents may name."""
        return ModelAccess(self._app, self.principal, self._models_of)

    @cached_property
    def usage(self) -> UsageAccess:
        """What was used."""
        return UsageAccess(self._app, self.principal)

    @cached_property
    def collections(self) -> CollectionAccess:
        """Documents and their search."""
        return CollectionAccess(self._app, self.principal)
