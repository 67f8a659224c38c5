"""Agents, as data."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

AgentKind = Literal["planner", "researcher", "operator", "writer", "overseer"]
"""What an agent does with a task; see ``collegium.agents``."""


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One declared agent. The built-in ones are declared in the same TOML form as a user's.

    Attributes:
        kind: Which behaviour runs it.
        capabilities: What tasks it may be given.
        prompt: The system prompt itself, or the name of a prompt file with its version (``writer@1``).
        tools: Names of the tools it may be given, ``*`` for every granted one.
        model: A model's name, or None for the run's.
        accepts: Names and patterns (`*.csv`) of documents; a run that has none of them better goes to another agent.
        max_concurrent: Tasks it works on at once in one process.
        max_concurrent_fleet: The same over all processes together; None for no such limit.
        limit_usd: What one attempt of it may cost; the smaller of this and the run's own limits holds.
        limit_tokens: Tokens one attempt of it may take.
        timeout_s: Seconds one attempt of it may take.
        scopes: What its role may do at most, of what whoever asks may; None for all of that.
    """

    name: str
    kind: AgentKind
    description: str
    capabilities: tuple[str, ...]
    prompt: str
    version: str = "1"
    tools: tuple[str, ...] = ()
    model: str | None = None
    max_steps: int = 12
    max_concurrent: int = 8
    temperature: float = 0.0
    rating: float = 0.5
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    timeout_s: float | None = None
    accepts: tuple[str, ...] = ()
    max_concurrent_fleet: int | None = None
    scopes: tuple[str, ...] | None = None
