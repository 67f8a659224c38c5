"""Routing: which agent gets a task, and why. Pure: the same figures always give the same choice and the same words."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from collegium.domain.agent import Agent
from collegium.domain.candidate import Candidate
from collegium.domain.errors import UnknownName
from collegium.domain.worker import AgentCondition
from collegium.tools.builtin.team import NAMED

DECLARED_WEIGHT: Final = 8.0
"""A declared rating counts like so many attempts that were watched."""
RATING_SHARE, ROOM_SHARE, SPEED_SHARE, AT_HAND_SHARE = 0.45, 0.35, 0.1, 0.1
"""What each figure is worth; together 1."""
NEUTRAL: Final = 0.5


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an agent at the moment; see ``Candidate`` for most fields.

    Attributes:
        condition: Whether it takes tasks at all.
        is_on_trial: It was quarantined and is to be tried again, with this task if it can have it.
        held: Why it can have nothing just now, beside its own number of tasks.
    """

    condition: AgentCondition = "active"
    is_on_trial: bool = False
    attempts: int = 0
    failures: int = 0
    load: int = 0
    fleet_load: int = 0
    fleet_max: int = 0
    waiting: int = 0
    seconds: float = 0.0
    is_at_hand: bool | None = None
    held: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a task wants of its agent.

    Attributes:
        capability: What it asks for.
        tools: Tools that the task names.
        run_tools: Names and patterns of tools that every agent of the run may use.
        documents: Names of the run's documents.
        before: The agent of the task's attempt before: the conversation is its, so it goes on with it.
        avoided: Agents that get it only where there is nobody else.
        likeness: How near each agent is to the capability, where nobody declares it.
    """

    capability: str
    tools: tuple[str, ...] = ()
    run_tools: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    before: str | None = None
    avoided: frozenset[str] = frozenset()
    likeness: Mapping[str, float] = msgspec.field(default_factory=dict)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen agent, the reason and the figures of all that were looked at, as ``task.routed`` records them."""

    agent: Agent
    reason: str
    candidates: tuple[Candidate, ...] = ()


def route(wanted: Wanted, able: Sequence[Agent], figures: Mapping[str, Figures]) -> Route | None:
    """The agent among ``able`` that gets the task; None when all who could have it are held up at the moment.

    Who had the attempt before goes on with it, and is waited for, unless it is quarantined. Others take nothing while
    they drain or are quarantined. Agents that are avoided, and those that lack what the task wants, come after all
    others. Then the highest score counts, then the first name. An agent that differs from itself in nothing but a
    better rating, more room or less time never loses a task by it.

    Raises UnknownName when nobody has the capability.
    """
    if not able:
        raise UnknownName(f"no agent has the capability {wanted.capability!r}", capability=wanted.capability)
    agents = {a.name: a for a in able}
    seen = tuple(_weighed(wanted, able, figures))
    pool = [c for c in seen if _takes(wanted, figures.get(c.agent, _NOTHING), c)]
    pool = [c for c in pool if c.agent not in wanted.avoided] or pool
    mine = [c for c in pool if c.agent == wanted.before]
    if mine:
        is_full = figures.get(mine[0].agent, _NOTHING).load >= mine[0].max_concurrent
        is_free = not is_full and mine[0].held in ("", "draining")
        return Route(agent=agents[mine[0].agent], reason="it had the attempt before") if is_free else None
    pool = [c for c in pool if not c.lacks] or pool
    free = [c for c in pool if not c.held]
    if not free:
        return None
    tried = next((c for c in free if figures.get(c.agent, _NOTHING).is_on_trial), None)
    best = tried or min(free, key=lambda c: (-c.score, c.agent))
    if len(seen) == 1 and not wanted.likeness:
        return Route(agent=agents[best.agent], reason=f"the only agent for {wanted.capability!r}; {_told(best)}")
    ranked = tuple(sorted(seen, key=lambda c: (c.agent != best.agent, -c.score, c.agent)))
    return Route(
        agent=agents[best.agent], reason=_reason(wanted, ranked, is_tried=tried is not None), candidates=ranked
    )


def rating(declared: float, *, attempts: int, failures: int) -> float:
    """A declared rating, moved by what was seen: the mean of the two, weighted by how much was seen.

    Source: the posterior mean of a beta prior of ``DECLARED_WEIGHT`` observations.
    """
    seen = max(0, attempts - failures)
    return (min(1.0, max(0.0, declared)) * DECLARED_WEIGHT + seen) / (DECLARED_WEIGHT + attempts)


def _weighed(wanted: Wanted, able: Sequence[Agent], figures: Mapping[str, Figures]) -> Iterable[Candidate]:
    known = {a.name: figures.get(a.name, _NOTHING) for a in able}
    fastest = min((f.seconds for f in known.values() if f.seconds > 0), default=0.0)
    for agent in sorted(able, key=lambda a: a.name):
        f = known[agent.name]
        measured = rating(agent.rating, attempts=f.attempts, failures=f.failures)
        likeness = wanted.likeness.get(agent.name)
        score = (
            RATING_SHARE * measured
            + ROOM_SHARE * _room(agent, f)
            + SPEED_SHARE * (fastest / f.seconds if f.seconds > 0 else NEUTRAL)
            + AT_HAND_SHARE * (NEUTRAL if f.is_at_hand is None else float(f.is_at_hand))
        )
        yield Candidate(
            agent=agent.name,
            score=round(score * (1.0 if likeness is None else likeness), 4),
            rating=round(measured, 4),
            attempts=f.attempts,
            failures=f.failures,
            load=f.load,
            max_concurrent=agent.max_concurrent,
            fleet_load=f.fleet_load,
            fleet_max=f.fleet_max,
            waiting=f.waiting,
            seconds=round(f.seconds, 3),
            is_at_hand=f.is_at_hand,
            likeness=None if likeness is None else round(likeness, 3),
            lacks=_lacks(wanted, agent),
            held=_held(agent, f),
        )


def _held(agent: Agent, f: Figures) -> str:
    if f.condition in ("draining", "quarantined"):
        return f.condition
    return f.held or ("all its places are taken" if f.load >= agent.max_concurrent else "")


def _takes(wanted: Wanted, f: Figures, c: Candidate) -> bool:
    """Whether it is there at all: what it began it ends, though it takes nothing new."""
    return f.condition in ("active", "retired") or (f.condition == "draining" and c.agent == wanted.before)


def _room(agent: Agent, f: Figures) -> float:
    """From 0 (full) to 1 (nothing to do): here or in the fleet, whichever is fuller; less where other work waits."""
    here = 1.0 - min(1.0, f.load / agent.max_concurrent)
    fleet = 1.0 - min(1.0, f.fleet_load / f.fleet_max) if f.fleet_max else 1.0
    return min(here, fleet) / (1.0 + f.waiting / agent.max_concurrent)


def _lacks(wanted: Wanted, agent: Agent) -> tuple[str, ...]:
    granted = (*agent.tools, *wanted.run_tools)
    missing = [f"the tool {t}" for t in wanted.tools if not _is_granted(t, granted)]
    if agent.accepts and wanted.documents and not _any_match(wanted.documents, agent.accepts):
        missing.append(f"documents like {', '.join(agent.accepts)}")
    return tuple(missing)


def _is_granted(tool: str, patterns: Sequence[str]) -> bool:
    """As ``Toolbox.matching`` has it: tools that reach colleagues are granted by their names alone."""
    return tool in patterns or (tool not in NAMED and any(fnmatch.fnmatchcase(tool, p) for p in patterns))


def _any_match(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _reason(wanted: Wanted, ranked: Sequence[Candidate], *, is_tried: bool) -> str:
    best, others = ranked[0], ranked[1:]
    if is_tried:
        told = f"{best.agent} was quarantined and is tried again, of {len(ranked)} agents for {wanted.capability!r},"
    elif best.likeness is not None:
        told = f"nobody declares {wanted.capability!r}, {best.agent} is the nearest ({best.likeness:.2f})"
    else:
        told = f"the best of {len(ranked)} agents for {wanted.capability!r}"
    against = [_against(wanted, best, c) for c in others[:3]]
    more = [f"{len(others) - 3} more"] if len(others) > 3 else []
    before = f", before {', '.join([*against, *more])}" if against else ""
    return f"{told} with {best.score:.2f}{before}; {_told(best)}"


def _against(wanted: Wanted, best: Candidate, other: Candidate) -> str:
    """What speaks against another candidate, shortly."""
    if other.held:
        return f"{other.agent} ({other.held})"
    if other.agent in wanted.avoided and best.agent not in wanted.avoided:
        return f"{other.agent} (failed at it)"
    if other.lacks and not best.lacks:
        return f"{other.agent} (lacks {', '.join(other.lacks)})"
    return f"{other.agent} {other.score:.2f}"


def _told(c: Candidate) -> str:
    """The figures of a candidate, for a person."""
    parts = [f"{c.load} of {c.max_concurrent} tasks", f"rating {c.rating:.2f}"]
    if c.attempts:
        parts.append(f"{c.attempts - c.failures} of {c.attempts} attempts went well")
    if c.seconds:
        parts.append(f"{c.seconds:.1f} s each")
    if c.fleet_load > c.load:
        parts.append(f"{c.fleet_load} of {c.fleet_max} in the fleet")
    if c.waiting:
        parts.append(f"{c.waiting} waiting for what else it does")
    if c.is_at_hand:
        parts.append("its model is loaded here")
    if c.lacks:
        parts.append(f"lacks {', '.join(c.lacks)}")
    return ", ".join(parts)


_NOTHING: Final = Figures()
