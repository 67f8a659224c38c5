"""Policies: what is allowed to whom, and what each request costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from collegium.domain.rate import Rate

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
WRITE_COST: Final = 5.0
"""A change costs as much as so many reads."""


class RatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed; None: as much as the machine can do.

    Attributes:
        credential: For each key, token or session.
        tenant: For all of a tenant together.
        refusals: Failed attempts to be let in, for each address.
        routes: By method and path prefix (``POST /v1/runs``), for each credential; the longest prefix counts.
        concurrent: Requests of one tenant that are answered at the same time, in each process.
    """

    credential: Rate | None = None
    tenant: Rate | None = None
    refusals: Rate | None = None
    routes: Mapping[str, Rate] = msgspec.field(default_factory=dict)
    concurrent: int | None = None


class Bound(NamedTuple):
    """One bucket that a request takes from.

    Attributes:
        name: As the headers call it.
        bucket: Which one.
        rate: How it fills.
        cost: How much the request takes.
    """

    name: str
    bucket: str
    rate: Rate
    cost: float


def bounds(policy: RatePolicy, *, tenant: str, credential: str, method: str, path: str) -> Sequence[Bound]:
    """Everything that a request takes from, the narrowest first."""
    cost = 1.0 if method in READS else WRITE_COST
    found: list[Bound] = []
    if policy.routes:
        asked = f"{method} {path}"
        route = max((r for r in policy.routes if asked.startswith(r)), key=len, default=None)
        if route is not None:
            # Calls of a route are counted one by one: that is what whoever limits it thinks of.
            found.append(Bound("route", f"api:route:{tenant}:{credential}:{route}", policy.routes[route], 1.0))
    if policy.credential is not None:
        found.append(Bound("key", f"api:key:{tenant}:{credential}", policy.credential, cost))
    if policy.tenant is not None:
        found.append(Bound("tenant", f"api:tenant:{tenant}", policy.tenant, cost))
    return found
