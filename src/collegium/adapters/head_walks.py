"""How a page of heads is found: by walks down an index, one for each project and status, which are merged."""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

from collegium.domain.head import HeadQuery


class HeadWalks(NamedTuple):
    """What is walked to one by one. Each walk reads a page at most; a filter would read everybody's to find few.

    Attributes:
        projects: Projects that have a walk each; without any, projects are a filter.
        statuses: The same of statuses.
    """

    projects: tuple[str, ...]
    statuses: tuple[str, ...]

    @property
    def places(self) -> tuple[tuple[str | None, str | None], ...]:
        """Project and status of each walk; none where one walk does for all."""
        if not self.projects and not self.statuses:
            return ()
        return tuple(product(self.projects or (None,), self.statuses or (None,)))


_NONE: Final = HeadWalks((), ())


def walks_of(query: HeadQuery, *, most: int) -> HeadWalks:
    """The walks that find a page of ``query``, at ``most`` so many: else what is wanted is picked out of longer ones.

    What is due, or of a worker, is few already. Runs of no project are in no index of projects: they are most runs.
    """
    if query.statuses is query.projects is None or query.due_before is not None or query.worker is not None:
        return _NONE
    statuses = tuple(sorted(query.statuses or ()))
    wanted = query.projects or frozenset()
    projects = () if query.tenant is None or "" in wanted or len(wanted) > most else tuple(sorted(wanted))
    if len(projects) * len(statuses) > most:
        statuses = ()
    return HeadWalks(projects, statuses)
