"""The ledger of effects: which calls were intended, what became of them, and what may be called now.

Pure functions over the events of one run (``docs/explanation/journal.md``, section 5). Nothing here calls a
tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from collegium.domain.body import (
    ApprovalRequested,
    Body,
    RunForked,
    ToolFinished,
    ToolIntended,
    ToolOutcomeUnknown,
)
from collegium.domain.errors import StoreCorrupt, ToolError
from collegium.domain.event import Draft, Event
from collegium.domain.tool import Effect, ToolDefinition, ToolResult
from collegium.tools.outcome import Reconciled

State = Literal["open", "finished", "unknown", "void"]
"""``open``: no result yet. ``unknown``: a person is asked. ``void``: was open in the run this one is a fork of."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One intended call and what became of it."""

    key: str
    task: str
    step: int
    call: int
    tool: str
    tool_version: str
    effect: Effect
    arguments_sha256: str
    state: State = "open"
    result: ToolResult | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is about to be intended."""

    key: str
    task: str
    step: int
    tool: str
    effect: Effect
    arguments_sha256: str


class Ledger(msgspec.Struct, frozen=True):
    """The intended calls of a run by key, in order, and the approvals they consumed."""

    entries: dict[str, Entry] = {}
    consumed: frozenset[str] = frozenset()

    def open(self, task: str) -> tuple[Entry, ...]:
        """Calls of ``task`` that were intended and have no result: to be settled before it goes on."""
        return tuple(e for e in self.entries.values() if e.task == task and e.state == "open")

    def finished_writes(self) -> tuple[Entry, ...]:
        """What has been done to the world, for a task that must start afresh."""
        return tuple(e for e in self.entries.values() if e.state == "finished" and is_write(e.effect))


Admission = Literal["call", "known", "settle", "approval", "ask"]
"""What to do about a call.

``call``: it is new, intend it. ``known``: it has a result, use that. ``settle``: it is open, see
``after_lapse``. ``approval``: a person must allow it, because a write with the same tool and arguments was
intended in another step. ``ask``: its own outcome is unknown and a person has not said yet.
"""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``entry`` is the call itself if it is on the ledger, ``like`` are the writes it repeats."""

    admission: Admission
    entry: Entry | None = None
    like: tuple[Entry, ...] = ()


NextAct = Literal["again", "reconcile", "finish", "ask"]
"""Call again with the same key, ask the tool, take its answer as the result, ask a person."""


def is_write(effect: Effect) -> bool:
    """Whether a call needs a durable intent before it."""
    return effect in ("write", "idempotent_write")


def fold(events: Iterable[Event | Draft], ledger: Ledger | None = None) -> Ledger:
    """The ledger after ``events`` of one run, in order; goes on from ``ledger``. Raises as ``apply``."""
    state = Ledger() if ledger is None else ledger
    for event in events:
        state = apply(state, event.body, task=event.task or "")
    return state


def apply(ledger: Ledger, body: Body, *, task: str) -> Ledger:
    """The ledger after one event; bodies it has no use for leave it as it is.

    Raises:
        StoreCorrupt: The events contradict the rules: another call under a known key, the end of a call that
            was never intended, an approval that is consumed twice. They were not written by this code, or the
            ledger was bypassed.
    """
    match body:
        case ToolIntended():
            return _intended(ledger, body, task)
        case ToolFinished(key=str(key)) if is_write(body.effect):
            if key not in ledger.entries and not body.result.is_ok:
                return ledger  # refused before it began: an approval was missing
            return _changed(ledger, key, "finished", body.result)
        case ToolOutcomeUnknown(key=key):
            return _changed(ledger, key, "unknown", None)
        case RunForked():
            # The parent's calls that were under way are its own business.
            entries = {k: _void(e) if e.state == "open" else e for k, e in ledger.entries.items()}
            return Ledger(entries, ledger.consumed)
    return ledger


def decide(ledger: Ledger, call: Call, *, approval: str | None = None) -> Decision:
    """What to do about ``call``; ``approval`` is the id of an approval that was given for exactly this call.

    Raises:
        ToolError: Its key stands on the ledger with another tool or other arguments: the conversation was
            changed under it. Or ``approval`` has already been consumed.
    """
    if approval is not None and approval in ledger.consumed:
        raise ToolError(
            f"approval {approval} was already consumed by another call: ask for a new one", approval=approval
        )
    entry = ledger.entries.get(call.key)
    if entry is not None:
        _check_same(entry, call.tool, call.arguments_sha256)
        match entry.state:
            case "finished":
                return Decision(admission="known", entry=entry)
            case "open":
                return Decision(admission="settle", entry=entry)
            case "unknown":
                return Decision(admission="ask" if approval is None else "call", entry=entry)
    like = repeated(ledger, call)
    if like and approval is None:
        return Decision(admission="approval", like=like)
    return Decision(admission="call", entry=entry, like=like)


def repeated(ledger: Ledger, call: Call) -> tuple[Entry, ...]:
    """Writes of this run with the same tool and arguments, from other steps; none unless ``call`` is a ``write``.

    An ``idempotent_write`` is not asked about: doing it again is what it was declared to bear.
    """
    if call.effect != "write":
        return ()
    return tuple(
        e
        for e in ledger.entries.values()
        if (e.tool, e.arguments_sha256) == (call.tool, call.arguments_sha256)
        and (e.task, e.step) != (call.task, call.step)
        and is_write(e.effect)
        and e.state != "void"
    )


def judge_at(lapsed_at: datetime, timeout_s: float) -> datetime:
    """The earliest moment to judge an open call: until then the old worker may still be in it."""
    return lapsed_at + timedelta(seconds=timeout_s)


def after_lapse(effect: Effect, reconciled: Reconciled | None = None) -> NextAct:
    """How a call goes on whose worker is dead, not before ``judge_at``.

    ``pure``, ``read`` and ``idempotent_write`` run again. A ``write`` only after ``reconcile`` has said that
    the far side will refuse the first one; what nobody knows, a person is asked.
    """
    if effect != "write":
        return "again"
    if reconciled is None:
        return "reconcile"
    match reconciled.state:
        case "done":
            return "finish"
        case "voided":
            return "again"
        case "unknown":
            return "ask"


def approves(request: ApprovalRequested, definition: ToolDefinition, *, arguments_sha256: str) -> bool:
    """Whether ``request`` asks about this version of this tool with exactly these arguments."""
    asked = (request.tool, request.tool_version, request.arguments_sha256)
    return asked == (definition.name, definition.version, arguments_sha256)


def _intended(ledger: Ledger, body: ToolIntended, task: str) -> Ledger:
    known = ledger.entries.get(body.key)
    if known is not None:
        try:
            _check_same(known, body.tool, body.arguments_sha256)
        except ToolError as error:
            raise StoreCorrupt(f"the journal contradicts itself: {error}", key=body.key) from error
    if body.approval is not None and body.approval in ledger.consumed:
        raise StoreCorrupt(f"the journal consumes approval {body.approval} twice", key=body.key)
    entry = Entry(
        key=body.key,
        task=task,
        step=body.step,
        call=body.call,
        tool=body.tool,
        tool_version=body.tool_version,
        effect=body.effect,
        arguments_sha256=body.arguments_sha256,
    )
    consumed = ledger.consumed if body.approval is None else ledger.consumed | {body.approval}
    return Ledger({**ledger.entries, body.key: entry}, consumed)


def _changed(ledger: Ledger, key: str, state: State, result: ToolResult | None) -> Ledger:
    entry = ledger.entries.get(key)
    if entry is None:
        raise StoreCorrupt(f"the journal ends the call {key}, which was never intended", key=key)
    changed = msgspec.structs.replace(entry, state=state, result=result)
    return Ledger({**ledger.entries, key: changed}, ledger.consumed)


def _void(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, state="void")


def _check_same(entry: Entry, tool: str, sha256: str) -> None:
    if (entry.tool, entry.arguments_sha256) != (tool, sha256):
        raise ToolError(
            f"call {entry.call} of step {entry.step} of task {entry.task} was intended as {entry.tool} with "
            f"arguments {entry.arguments_sha256[:12]}; it cannot become {tool} with {sha256[:12]}",
            key=entry.key,
        )
