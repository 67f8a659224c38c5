"""Schedules: goals that come again, when they come next, and what became of the last times.

A schedule goes from one due time to the next in two steps, each stored by itself: a due time is *taken* (from then on
it is the one that has to be seen to, whoever sees to it), then it is *settled* with what came of it. The run of a due
time has a key of its own, so that it is made once however often somebody dies between the two.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

MissedPolicy = Literal["skip", "once", "all"]
OverlapPolicy = Literal["skip", "allow", "queue"]
Outcome = Literal["submitted", "skipped", "missed", "failed"]

LATE_S: Final = 60.0
"""A due time that nobody saw to for longer was missed."""
MAX_MISSED: Final = 24
"""So many of the missed times are made up for at most, the newest ones."""
MAX_FAILURES: Final = 10
"""After so many failures in a row a schedule is paused."""
MAX_FIRINGS: Final = 20
"""So many of the last firings are kept."""
_LET_GO: Final[dict[MissedPolicy, str]] = {
    "skip": "nobody was there in time",
    "once": "the run behind it stands for it, too",
    "all": f"no more than {MAX_MISSED} are made up for",
}
_PRINCIPAL: Final = "schedule:"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Firing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a due time; of those from ``due_at`` to ``until`` where several were missed."""

    due_at: datetime
    outcome: Outcome
    at: datetime
    run: str | None = None
    reason: str = ""
    until: datetime | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a goal comes again. The goal itself is kept apart, under the same id, and never changes.

    Attributes:
        due_us: When somebody has to look, in microseconds since 1970; None while it is paused. Due ones are found by
            it.
        next_at: The next time by the expression; ``due_us`` is that and the jitter.
        taken_at: The due time that is being seen to, until what came of it is stored.
        missed: What happens to times that nobody saw to: nothing, one run for all of them, a run for each (at most
            ``MAX_MISSED``).
        overlap: What happens when the run before goes on: no run, a second one, or one as soon as it has ended.
        jitter_s: Each time is put off by up to so much, so that not everything begins on the hour.
        paused: Why it is paused; None while it is not.
        failures: How often in a row no run could be made.
        last_run: Its newest run.
        firings: The last ones, oldest first.
    """

    id: str
    tenant: str
    name: str
    cron: str
    tz: str
    missed: MissedPolicy
    overlap: OverlapPolicy
    jitter_s: float
    added_at: datetime
    added_by: str
    due_us: int | None
    next_at: datetime
    taken_at: datetime | None = None
    paused: str | None = None
    failures: int = 0
    last_run: str | None = None
    firings: tuple[Firing, ...] = ()

    @property
    def principal(self) -> str:
        """Who asks for its runs."""
        return principal_of(self.id)


def principal_of(schedule: str) -> str:
    """Who asks for the runs of a schedule."""
    return f"{_PRINCIPAL}{schedule}"


def schedule_of(principal: str) -> str | None:
    """The schedule that asked for a run; None where somebody else did."""
    return principal.removeprefix(_PRINCIPAL) if principal.startswith(_PRINCIPAL) else None


def run_key(schedule: str, due_at: datetime) -> str:
    """The idempotency key of the run of a due time."""
    return f"schedule/{schedule}/{due_at:%Y-%m-%dT%H:%M:%SZ}"


def due_us(schedule: str, next_at: datetime, jitter_s: float) -> int:
    """When somebody has to look for ``next_at``, in microseconds since 1970; the same wherever it is asked."""
    part = int.from_bytes(hashlib.sha256(run_key(schedule, next_at).encode()).digest()[:8], "big") / 2**64
    return us_of(next_at) + int(jitter_s * part * 1_000_000)


def us_of(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def wanted(schedule: Schedule, times: tuple[datetime, ...], now: datetime) -> tuple[datetime | None, datetime | None]:
    """Of the times that have come, the one to be seen to first, and the last one before it that is let go.

    Args:
        schedule: Its policy says which.
        times: The newest times that have come, oldest first; at least one, and at most one more than ``MAX_MISSED``.
        now: What counts as missed is judged by it.
    """
    if schedule.missed == "all":
        return times[-MAX_MISSED:][0], times[0] if len(times) > MAX_MISSED else None
    if schedule.missed == "once" or (now - times[-1]).total_seconds() <= LATE_S + schedule.jitter_s:
        return times[-1], times[-2] if len(times) > 1 else None
    return None, times[-1]


def taken(schedule: Schedule, due_at: datetime | None, let_go: datetime | None, now: datetime) -> Schedule:
    """``schedule`` with ``due_at`` as the time to be seen to and everything up to ``let_go`` as missed."""
    firings = schedule.firings
    if let_go is not None:
        until = let_go if let_go > schedule.next_at else None
        reason = _LET_GO[schedule.missed]
        missed = Firing(due_at=schedule.next_at, until=until, outcome="missed", at=now, reason=reason)
        firings = (*firings, missed)[-MAX_FIRINGS:]
    return msgspec.structs.replace(schedule, taken_at=due_at, firings=firings)


def settled(schedule: Schedule, firing: Firing) -> Schedule:
    """``schedule`` with what came of the time that was taken; paused when that went wrong too often in a row."""
    firings = (*schedule.firings, firing)[-MAX_FIRINGS:]
    after = msgspec.structs.replace(schedule, taken_at=None, firings=firings)
    if firing.outcome == "submitted":
        return msgspec.structs.replace(after, failures=0, last_run=firing.run)
    if firing.outcome != "failed":
        return after
    after = msgspec.structs.replace(after, failures=schedule.failures + 1)
    if after.failures < MAX_FAILURES:
        return after
    return paused(after, f"no run could be made {after.failures} times in a row, at last: {firing.reason}")


def amended(schedule: Schedule, firing: Firing) -> Schedule:
    """``schedule`` where another worker failed to make the run of a due time that this one has made."""
    firings = tuple(firing if (f.due_at, f.outcome) == (firing.due_at, "failed") else f for f in schedule.firings)
    if firing.outcome != "submitted" or firings == schedule.firings:
        return schedule
    is_newest = schedule.firings[-1].due_at == firing.due_at
    return msgspec.structs.replace(
        schedule,
        firings=firings,
        failures=0 if is_newest else schedule.failures,
        last_run=firing.run if is_newest else schedule.last_run,
    )


def moved(schedule: Schedule, next_at: datetime) -> Schedule:
    """``schedule`` with ``next_at`` as its next time; one that is paused stays so."""
    due = None if schedule.paused is not None else due_us(schedule.id, next_at, schedule.jitter_s)
    return msgspec.structs.replace(schedule, next_at=next_at, due_us=due)


def paused(schedule: Schedule, reason: str) -> Schedule:
    """``schedule``, paused; one that is keeps its first reason."""
    if schedule.paused is not None:
        return schedule
    return msgspec.structs.replace(schedule, paused=reason, due_us=None)


def resumed(schedule: Schedule, next_at: datetime) -> Schedule:
    """``schedule``, going on with ``next_at``; times that passed while it was paused are let go."""
    return moved(msgspec.structs.replace(schedule, paused=None, failures=0, taken_at=None), next_at)
