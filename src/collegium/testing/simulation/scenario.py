"""Scenarios: what is asked of a simulated team, and in what kind of world."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import msgspec

from collegium.domain.plan import Plan
from collegium.domain.usage import Limits
from collegium.testing.simulation import faults as f
from collegium.testing.simulation.program import GoalProgram, random_plan


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One goal: when it is submitted, what it is, and what the user does about it later."""

    mark: str
    plan: Plan
    at_s: float = 0.0
    is_planned: bool = False
    """Whether the team makes the plan itself (by asking the model), or is given it."""
    limits: Limits = Limits()
    cancel_after_s: float | None = None

    @property
    def text(self) -> str:
        """The goal's text."""
        if not self.is_planned:
            return f"Goal {self.mark}"
        return msgspec.json.encode(GoalProgram(mark=f"{self.mark}/plan", plan=self.plan)).decode()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A world. Faults end after ``chaos_s``; what is not done ``grace_s`` later never ends."""

    submissions: tuple[Submission, ...]
    faults: f.Faults
    hosts: int = 2
    chaos_s: float = 20.0
    grace_s: float = 600.0
    lease_s: float = 2.0
    hide_s: float = 5.0
    drains_at_s: tuple[float, ...] = ()
    armed: dict[str, frozenset[int]] = field(default_factory=dict)


def random_scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = Random(f"{seed}/scenario")  # noqa: S311 - a simulation, no secret
    chaos_s = rng.uniform(3.0, 25.0)
    return Scenario(
        submissions=tuple(_submission(rng, f"r{number}") for number in range(rng.randint(1, 3))),
        faults=f.drawn(Random(f"{seed}/faults")),  # noqa: S311
        hosts=rng.randint(1, 3),
        chaos_s=chaos_s,
        lease_s=rng.choice((1.0, 2.0, 4.0)),
        hide_s=rng.choice((2.0, 5.0, 30.0)),
        drains_at_s=tuple(sorted(rng.uniform(0.0, chaos_s) for _ in range(rng.choice((0, 0, 0, 1, 2))))),
    )


def _submission(rng: Random, mark: str) -> Submission:
    return Submission(
        mark=mark,
        plan=random_plan(rng, mark),
        at_s=rng.uniform(0.0, 3.0),
        is_planned=rng.random() < 0.25,
        limits=Limits(
            tokens=rng.choice((None, None, 4_000, 12_000, 60_000)),
            deadline_s=rng.choice((None, None, None, None, None, 8.0)),
        ),
        cancel_after_s=rng.uniform(0.0, 6.0) if rng.random() < 0.2 else None,
    )
