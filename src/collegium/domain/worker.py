"""What a worker process shows of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

WorkerState = Literal["ready", "draining", "stopping"]
AgentCondition = Literal["active", "draining", "quarantined", "retired"]
"""``active`` takes tasks; ``draining`` ends what it has and takes no more; ``quarantined`` failed too often and is
tried again later; ``retired`` is no longer in the roster and only ends what pinned runs need of it."""


class AgentCard(msgspec.Struct, frozen=True, kw_only=True):
    """How one agent does in one worker, over the last minutes."""

    name: str
    version: str
    """Short hash of everything that defines the agent."""
    capabilities: tuple[str, ...]
    condition: AgentCondition = "active"
    load: int = 0
    """Tasks it works on."""
    max_concurrent: int = 1
    attempts: int = 0
    """Attempts that ended in the window."""
    failures: int = 0
    """Those of them that failed."""
    seconds: float = 0.0
    """Median seconds of one that went well."""
    p95_s: float = 0.0
    """Nearly all of those took no longer."""
    rating: float = 0.5
    """From 0 (bad) to 1 (good): declared, then learnt."""


class WorkerCard(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process, as it shows itself to people and to other workers."""

    worker: str
    host: str
    pid: int
    version: str
    """Of collegium."""
    started_at: datetime
    at: datetime
    """When the card was written."""
    state: WorkerState = "ready"
    capabilities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Local models that are loaded here: tasks that want them come here first."""
    load: int = 0
    concurrency: int = 1
    lag_s: float = 0.0
    """How late the event loop runs: saturation."""
    agents: tuple[AgentCard, ...] = ()
