"""Who could have had a task: the figures by which its agent was chosen, as the journal keeps them."""

from __future__ import annotations

import msgspec


class Candidate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):  # stored for ever, like everything in ``body.py``
    """One agent that was looked at for a task.

    Attributes:
        agent: Its name.
        score: From 0 (bad) to 1 (good): what follows from the figures; the highest gets the task.
        rating: Declared, moved by how its attempts of the last minutes went.
        attempts, failures: Of the last minutes, in all workers; only those whose end was its own doing.
        load, max_concurrent: Tasks it works on in the worker that chose, and how many it may.
        fleet_load, fleet_max: The same over all workers, as far as it was known.
        waiting: Tasks that wait for its other capabilities.
        seconds: Median of its attempts; 0 where there were none.
        is_at_hand: Whether the model it asks is loaded in that worker; None for models that are no local ones.
        likeness: How near it is to what was asked for, from 0 to 1; None where it declares the capability.
        lacks: What the task wants and it does not have.
        held: Why it could not have the task at that moment; empty for those that could.
    """

    agent: str
    score: float
    rating: float = 0.5
    attempts: int = 0
    failures: int = 0
    load: int = 0
    max_concurrent: int = 1
    fleet_load: int = 0
    fleet_max: int = 0
    waiting: int = 0
    seconds: float = 0.0
    is_at_hand: bool | None = None
    likeness: float | None = None
    lacks: tuple[str, ...] = ()
    held: str = ""
