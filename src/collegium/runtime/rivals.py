"""Rivals: writes with the same arguments by different tasks. Who came first decides who asks, also in a replay."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.ports import Clock, Journal
from collegium.runtime.history import past
from collegium.tools.canonical import arguments_sha256

_LOOK_S = 0.01


class Write(NamedTuple):
    """What a call does, whoever makes it."""

    tool: str
    arguments_sha256: str


class _Point(NamedTuple):
    """Where a call shows on the ledger: it is asked about, intended, or has ended; or its task waits for a person."""

    task: str
    what: Literal["asked", "intended", "ended", "waits"]
    which: str | int | tuple[int, int]


class Rivals:
    """Lets the calls of a replay onto the ledger in the order in which the recording has them.

    Only of writes that several tasks made alike does the order say anything; all others go on at once.
    """

    def __init__(self, recorded: Sequence[Event], journal: Journal, *, clock: Clock) -> None:
        seen = _Seen(recorded)
        self._points = {w: seen.points(w, tasks) for w in seen.writes if len(tasks := seen.tasks(w)) > 1}
        self._run = recorded[0].run
        self._journal = journal
        self._clock = clock

    async def turn(self, task: str, write: Write) -> None:
        """Returns when everything that came before the next point of ``task`` is there."""
        points = self._points.get(write)
        while points is not None and not _is_due(task, points, await self._there(write, points)):
            await self._clock.sleep(_LOOK_S)

    async def _there(self, write: Write, recorded: Iterable[_Point]) -> Sequence[_Point]:
        events = [e async for page in past(self._journal, self._run) for e in page]
        return _Seen(events).points(write, {p.task for p in recorded})


def _is_due(task: str, recorded: Sequence[_Point], there: Sequence[_Point]) -> bool:
    """Whether all that is recorded before the next point of ``task`` is there, as often as it is recorded."""
    have = Counter(p.task for p in there)
    own = have.pop(task, 0)
    wanted = Counter[str]()
    for point in recorded:
        if point.task != task:
            wanted[point.task] += 1
        elif own == 0:
            return wanted <= have
        else:
            own -= 1
    return True  # it does more than is recorded: that is found elsewhere


class _Seen:
    """The points of all writes, by their places in a run; what crashes caused to be written twice counts once."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.writes: dict[Write, dict[_Point, int]] = defaultdict(dict)
        self._waits: dict[_Point, int] = {}
        self._proposed: dict[tuple[str, int, int], Write] = {}
        self._by_key: dict[str, Write] = {}
        for place, event in enumerate(events):
            self._see(place, event.body, event.task or "")

    def tasks(self, write: Write) -> set[str]:
        """The tasks that made it, or asked whether they may."""
        return {p.task for p in self.writes[write]}

    def points(self, write: Write, tasks: Collection[str]) -> list[_Point]:
        """Where it shows, and where ``tasks`` wait: they look at all calls to come before they do."""
        waits = {p: place for p, place in self._waits.items() if p.task in tasks}
        places = {**self.writes.get(write, {}), **waits}
        return sorted(places, key=lambda p: places[p])

    def _see(self, place: int, body: b.Body, task: str) -> None:
        match body:
            case b.StepProposed():
                for index, call in enumerate(body.reply.tool_calls):
                    self._proposed[task, body.step, index] = Write(call.name, arguments_sha256(call.arguments))
            case b.StepJudged(decision="ask") if (
                write := self._proposed.get((task, body.step, body.call))
            ) is not None:
                self.writes[write].setdefault(_Point(task, "asked", (body.step, body.call)), place)
            case b.ApprovalRequested():
                self._waits[_Point(task, "waits", len(self._waits))] = place
            case b.ToolIntended(effect="write"):
                write = self._by_key[body.key] = Write(body.tool, body.arguments_sha256)
                self.writes[write].setdefault(_Point(task, "intended", body.key), place)
            case b.ToolFinished(key=str(key)) | b.ToolOutcomeUnknown(key=key) if key in self._by_key:
                self.writes[self._by_key[key]].setdefault(_Point(task, "ended", key), place)
