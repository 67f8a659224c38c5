"""What of its tenant a principal reaches: all of it, or the runs of its projects alone."""

from __future__ import annotations

from collections.abc import Collection

from collegium.app import Collegium
from collegium.domain.errors import NotAllowed, NotFound, StoreCorrupt, UsageError
from collegium.domain.principal import Principal, check_project


class Reach:
    """Asked by every part for whatever hangs on a run; what belongs to none is reached by those alone with all of it.

    To whoever reaches it not, a run is not there (``NotFound``), as those of other tenants are not.
    """

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal

    @property
    def projects(self) -> frozenset[str] | None:
        """The projects it is limited to; None for all of the tenant."""
        return self._principal.projects

    def has(self, project: str) -> bool:
        """Whether what belongs to ``project`` is reached."""
        return self.projects is None or project in self.projects

    def within(self, project: str | None) -> frozenset[str] | None:
        """The projects to be looked through where ``project`` was asked for; None for all of the tenant."""
        if project is None:
            return self.projects
        # What cannot be printed is the name of none, nor could every store be asked for it.
        return frozenset({project} if self.has(project) and project.isprintable() else ())

    async def run(self, run: str) -> None:
        """Raises ``NotFound`` for a run of another project, and of another tenant."""
        if not await self.has_run(run):
            raise NotFound(f"there is no run {run}", run=run)

    async def has_run(self, run: str) -> bool:
        """Whether the run is of one of its projects; its head tells where it was pruned or cannot be read."""
        if self.projects is None:
            return True
        try:
            state = await self._app.state(run, tenant=self._principal.tenant)
        except (NotFound, StoreCorrupt):
            head = await self._app.stores.journal.head(run)
            return head is not None and head.tenant == self._principal.tenant and self.has(head.project)
        return self.has(state.goal.project)

    def all(self) -> None:
        """Raises ``NotAllowed`` unless all of the tenant is reached."""
        if self.projects is not None:
            raise NotAllowed(f"{self._principal.id} is limited to projects, and this is of the whole tenant")

    def known(self, what: str, id_: str) -> None:
        """Raises ``NotFound`` unless all of the tenant is reached: it is no project's."""
        if self.projects is not None:
            raise NotFound(f"there is no {what} {id_[:100]}", **{what: id_[:100]})

    def project(self, wanted: str) -> str:
        """The project of something new: ``wanted``, or its only one. Raises ``NotAllowed``, ``UsageError``."""
        if wanted:
            check_project(wanted)
        if self.projects is None:
            return wanted
        if not wanted and len(self.projects) == 1:
            return next(iter(self.projects))
        if not wanted:
            raise UsageError(f"say which project it belongs to: {', '.join(sorted(self.projects))}")
        if wanted not in self.projects:
            raise NotAllowed(f"{self._principal.id} does not belong to the project {wanted}", project=wanted)
        return wanted

    def narrowest(self, wanted: Collection[str] | None) -> frozenset[str] | None:
        """The projects of whoever it hands rights on to: those that are ``wanted``, all of its own where none are.

        Raises ``NotAllowed`` for others than its own.
        """
        given = self.projects if wanted is None else frozenset(wanted)
        if self.projects is not None and (given is None or not given <= self.projects):
            raise NotAllowed(f"{self._principal.id} cannot give away projects that it has not")
        return given
