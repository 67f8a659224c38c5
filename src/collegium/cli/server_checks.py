"""The checks of ``collegium doctor`` of servers: PostgreSQL, Redis, their connections and their clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collegium.cli.finding import Check
from collegium.cli.text import size
from collegium.domain.errors import CollegiumError, MissingExtra

if TYPE_CHECKING:
    from collegium.config import Settings

SKEW_S, TOO_SKEW_S = 1.0, 60.0
"""Waking times and deadlines are times of day: hosts whose clocks differ look too early or too late by as much."""


async def servers(settings: Settings) -> list[Check]:
    """A line for each server that is named, one for connections, one for clocks; none where there are no servers."""
    ahead: dict[str, float] = {}
    return [*await _postgres(settings, ahead), *await _redis(settings, ahead), *_clocks(ahead)]


async def _postgres(settings: Settings, ahead: dict[str, float]) -> list[Check]:
    from collegium.wiring.facts import connections_of, postgres_facts

    try:
        facts = await postgres_facts(settings)
    except CollegiumError as error:
        return [Check("postgresql", "fail", error.message, _advice(error, "start it, or correct the store's URL"))]
    if facts is None:
        return []
    found = f"{facts.version} at {facts.place}"
    if facts.is_replica:
        return [Check("postgresql", "fail", f"{found} is a replica", "name the primary")]
    ahead["PostgreSQL"] = facts.ahead_s
    each, processes = connections_of(settings)
    wanted, free = each * processes, facts.connections - facts.used
    pools = f"serve opens up to {wanted} ({processes} processes, {each} each), "
    pools += f"{free} of {facts.connections} are free"
    if wanted > free:
        advice = "lower postgres.pool or server.workers, or raise max_connections of the server"
        return [Check("postgresql", "ok", found), Check("connections", "warn", pools, advice)]
    return [Check("postgresql", "ok", found), Check("connections", "ok", pools)]


async def _redis(settings: Settings, ahead: dict[str, float]) -> list[Check]:
    from collegium.wiring.facts import redis_facts

    try:
        facts = await redis_facts(settings)
    except CollegiumError as error:
        return [Check("redis", "fail", error.message, _advice(error, "start it, or correct `redis` in the settings"))]
    if facts is None:
        return []
    ahead["Redis"] = facts.ahead_s
    most = size(facts.max_bytes) if facts.max_bytes else "no limit"
    found = f"{facts.version} at {facts.place}, {size(facts.used_bytes)} used, {most}"
    if facts.max_bytes and facts.policy != "noeviction":
        advice = "set maxmemory-policy to noeviction: messages that are removed are found again, but late"
        return [Check("redis", "warn", f"{found}, {facts.policy}", advice)]
    return [Check("redis", "ok", found)]


def _clocks(ahead: dict[str, float]) -> list[Check]:
    if not ahead:
        return []
    found = ", ".join(f"{name} {seconds:+.3f} s" for name, seconds in ahead.items()) + " beside this machine"
    worst = max(abs(seconds) for seconds in ahead.values())
    if worst < SKEW_S:
        return [Check("clocks", "ok", found)]
    return [Check("clocks", "fail" if worst >= TOO_SKEW_S else "warn", found, "let NTP set the clocks of all hosts")]


def _advice(error: CollegiumError, otherwise: str) -> str:
    return "" if isinstance(error, MissingExtra) else otherwise
