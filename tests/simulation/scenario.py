"""Scenarios: what is asked of a simulated team, and in what kind of world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import msgspec

from collegium.domain.plan import Plan
from collegium.domain.usage import Limits
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.stops import Kind
from tests.simulation import faults as f
from tests.simulation.program import GoalProgram, Program, plan_of, random_plan
from tests.simulation.team import team_plan, with_team


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One goal: when it is submitted, what it is, and what the user does about it later."""

    mark: str
    plan: Plan
    at_s: float = 0.0
    is_planned: bool = False
    """Whether the team makes the plan itself (by asking the model), or is given it."""
    limits: Limits = field(default_factory=Limits)
    cancel_after_s: float | None = None
    says_after_s: float | None = None
    fork_after_s: float | None = None
    is_reviewed: bool = False
    is_team: bool = False
    """Whether its tasks may ask and tell each other things."""

    @property
    def text(self) -> str:
        """The goal's text."""
        if not self.is_planned:
            return f"Goal {self.mark}"
        return msgspec.json.encode(GoalProgram(mark=f"{self.mark}/plan", plan=self.plan)).decode()


@dataclass(frozen=True, kw_only=True)
class Switching:
    """A kill switch; ``name`` of a run is the mark of its submission."""

    kind: Kind
    name: str
    at_s: float
    seconds: float


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
    shows_death: bool = True
    """Whether others see the end of a process at once, as on one computer."""
    drains_at_s: tuple[float, ...] = ()
    switchings: tuple[Switching, ...] = ()
    is_answering: bool = True
    """Whether anybody answers questions; otherwise runs may wait for ever."""
    approvals: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    tenant_tokens: int | None = None
    """What all runs together may take in a day."""
    armed: dict[str, frozenset[int]] = field(default_factory=dict)


_ASKING: Final = ApprovalPolicy(tools=("mail",))
_EXPIRING: Final = ApprovalPolicy(tools=("pay", "put"), expires_s=4.0, default="approve", is_escalating=True)


def random_scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = Random(f"{seed}/scenario")
    chaos_s = rng.uniform(3.0, 25.0)
    return Scenario(
        submissions=_joined(seed, [_submission(rng, f"r{number}") for number in range(rng.randint(1, 3))]),
        faults=f.drawn(Random(f"{seed}/faults")),
        hosts=rng.randint(1, 3),
        chaos_s=chaos_s,
        lease_s=rng.choice((1.0, 2.0, 4.0)),
        hide_s=rng.choice((2.0, 5.0, 30.0)),
        shows_death=rng.random() < 0.5,
        switchings=tuple(_switching(rng, chaos_s) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        is_answering=rng.random() < 0.8,
        approvals=rng.choice((ApprovalPolicy(), ApprovalPolicy(), _ASKING, _EXPIRING)),
        tenant_tokens=rng.choice((None, None, None, 20_000, 60_000)),
        drains_at_s=tuple(sorted(rng.uniform(0.0, chaos_s) for _ in range(rng.choice((0, 0, 0, 1, 2))))),
    )


def _joined(seed: int, alone: Sequence[Submission]) -> tuple[Submission, ...]:
    """``alone``, in some of which the tasks ask and tell each other things; drawn apart, after all the rest."""
    rng = Random(f"{seed}/team")
    return tuple(
        replace(one, plan=with_team(rng, one.plan), is_team=True) if rng.random() < 0.5 else one for one in alone
    )


def _switching(rng: Random, chaos_s: float) -> Switching:
    places: tuple[tuple[Kind, str], ...] = (
        ("tenant", "default"),
        ("run", "r0"),
        ("agent", "operator"),
        ("tool", "pay"),
    )
    kind, name = rng.choice(places)
    return Switching(kind=kind, name=name, at_s=rng.uniform(0.0, chaos_s), seconds=rng.uniform(0.5, 20.0))


def _submission(rng: Random, mark: str) -> Submission:
    return Submission(
        mark=mark,
        plan=random_plan(rng, mark),
        at_s=rng.uniform(0.0, 3.0),
        is_planned=rng.random() < 0.25,
        limits=Limits(
            tokens=rng.choice((None, None, None, 6_000, 15_000, 30_000)),
            deadline_s=rng.choice((None, None, None, None, None, 8.0)),
        ),
        cancel_after_s=rng.uniform(0.0, 6.0) if rng.random() < 0.2 else None,
        says_after_s=rng.uniform(0.0, 6.0) if rng.random() < 0.2 else None,
        is_reviewed=rng.random() < 0.15,
        fork_after_s=rng.uniform(0.0, 10.0) if rng.random() < 0.15 else None,
    )


def directed(seed: int, armed: dict[str, frozenset[int]] | None = None) -> Scenario:
    """A world without chance faults in which every kind of event is written and every act is done."""

    def one(mark: str, *steps: tuple[tuple[str, str], ...], failures: int = 0, poison: bool = False) -> Plan:
        program = Program(mark=f"{mark}/t0", steps=steps, failures=failures, poison=poison)
        return plan_of([(program, (), "operate")])

    everything = (("note", "r0/a"), ("look", "r0/b"), ("put", "r0/c"), ("pay", "r0/d"), ("mail", "r0/e"))
    planned = plan_of(
        [
            (Program(mark="r0/t0", steps=(everything,)), (), "operate"),
            (Program(mark="r0/t1"), ("t0",), "write"),
        ]
    )
    saved = plan_of(
        [
            (Program(mark="r1/t0", steps=((("look", "r1/a"),),)), (), "operate"),
            (Program(mark="r1/t1"), ("t0",), "write"),
        ]
    )
    stuck = plan_of([(Program(mark="r6/t0", failures=99), (), "operate"), (Program(mark="r6/t1"), (), "operate")])
    submissions = (
        Submission(mark="r0", plan=planned, is_planned=True, is_reviewed=True),
        Submission(mark="r1", plan=saved, at_s=0.2, fork_after_s=0.3),
        Submission(mark="r2", plan=one("r2", (("note", "r2/a"),), failures=1), at_s=0.4, says_after_s=0.1),
        Submission(mark="r3", plan=one("r3", (("pay", "r3/after"),), (("pay", "r3/before"),)), at_s=1.0),
        Submission(mark="r4", plan=one("r4", (("mail", "r4/lost"),)), at_s=1.2),
        Submission(mark="r5", plan=one("r5", (("look", "r5/a"),)), at_s=1.4, limits=Limits(tokens=900)),
        Submission(mark="r6", plan=stuck, at_s=1.6, is_planned=True),
        Submission(mark="r7", plan=one("r7", failures=99), at_s=2.0, cancel_after_s=0.3),
        Submission(mark="r8", plan=one("r8", poison=True), at_s=8.0),
        Submission(mark="r9", plan=team_plan("r9"), at_s=0.6, is_team=True),
    )
    return Scenario(
        submissions=submissions,
        faults=f.none(Random(f"{seed}/faults")),
        chaos_s=30.0,
        shows_death=seed % 2 == 0,
        drains_at_s=(6.0,),
        switchings=(Switching(kind="agent", name="operator", at_s=2.5, seconds=2.0),),
        approvals=ApprovalPolicy(tools=("put",)),
        tenant_tokens=1_000_000,
        armed=armed or {},
    )
