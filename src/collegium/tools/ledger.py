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
    ApprovalAnswered,
    ApprovalRequested,
    Body,
    RunForked,
    ToolFinished,
    ToolIntended,
    ToolOutcomeUnknown,
)
from collegium.domain.errors import StoreCorrupt, ToolError
from collegium.domain.event import Draft, Event
from collegium.domain.tool import Effect, ToolResult
from collegium.tools.outcome import Reconciled

State = Literal["open", "finished", "unknown", "retry", "void"]
"""What became of a call.

``open``: no result yet. ``unknown``: a person is asked. ``retry``: that person wants it made once more. ``void``: was
open in the run this one is a fork of, or was voided at the far side and made anew under another key.
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One intended call and what became of it.

    Attributes:
        at: When it was intended, the last time; ``attempt`` is the one that did.
        has_happened: False once a person has said that it did not.
        approval: In the state ``retry``: the answer that allows one further call.
    """

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
    at: datetime | None = None
    attempt: int | None = None
    has_happened: bool = True
    approval: str | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a person was asked about a call, and the answer once it is there."""

    request: ApprovalRequested
    answer: ApprovalAnswered | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is about to be intended."""

    key: str
    task: str
    step: int
    tool: str
    tool_version: str
    effect: Effect
    arguments_sha256: str


class Ledger(msgspec.Struct, frozen=True):
    """The intended calls of a run by key, in order, the approvals they consumed, and what people were asked.

    ``elsewhere``: what a fork's parents wrote, or may have written, behind the event they share with it.
    """

    entries: dict[str, Entry] = {}
    consumed: frozenset[str] = frozenset()
    asked: dict[str, Question] = {}
    elsewhere: tuple[Entry, ...] = ()

    def open(self, task: str) -> tuple[Entry, ...]:
        """Calls of ``task`` that were intended and have no result: to be settled before it goes on."""
        return tuple(e for e in self.entries.values() if e.task == task and e.state == "open")

    def finished_writes(self) -> tuple[Entry, ...]:
        """What has been done to the world, for a task that must start afresh."""
        done = (e for e in self.entries.values() if e.state == "finished" and e.has_happened)
        return tuple(e for e in done if is_write(e.effect))

    def key_of(self, task: str, step: int, call: int) -> str | None:
        """The key under which a call of this run was intended last, or None."""
        return next(
            (
                e.key
                for e in reversed(self.entries.values())
                if (e.task, e.step, e.call) == (task, step, call) and e.state != "void"
            ),
            None,
        )

    def shared_key(self, tool: str, arguments_sha256: str) -> str | None:
        """The key under which a fork's parent has made just this ``idempotent_write``: the far side knows it."""
        return next(
            (
                e.key
                for e in self.elsewhere
                if (e.effect, e.tool, e.arguments_sha256) == ("idempotent_write", tool, arguments_sha256)
                and e.key not in self.entries
            ),
            None,
        )

    def about(self, call: Call) -> Question | None:
        """The last question about exactly this call: the same arguments, and the same version of the tool."""
        wanted = (call.tool, call.tool_version, call.arguments_sha256)
        for question in reversed(self.asked.values()):
            request = question.request
            asked = (request.tool, request.tool_version, request.arguments_sha256)
            if request.kind == "tool" and request.key == call.key and asked == wanted:
                return question
        return None


Admission = Literal["call", "known", "settle", "approval", "refused", "ask"]
"""What to do about a call.

``call``: intend it. ``known``: it has a result, use that. ``settle``: it is open, see ``after_lapse``. ``approval``: a
person must allow it, because a rule says so or because a write with the same tool and arguments was intended in another
step. ``refused``: that person did not allow it. ``ask``: its own outcome is unknown and a person has not said yet.
"""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a call, and why.

    ``entry`` is the call itself if it is on the ledger, ``like`` are the writes it repeats, ``answer`` is the person's
    word by which it is called or refused.
    """

    admission: Admission
    entry: Entry | None = None
    like: tuple[Entry, ...] = ()
    answer: ApprovalAnswered | None = None

    @property
    def approval(self) -> str | None:
        """What the intent has to name."""
        return None if self.answer is None else self.answer.approval


NextAct = Literal["again", "anew", "reconcile", "finish", "ask"]
"""Call again with the same key, or with a new one; ask the tool, take its answer as the result, ask a person."""


def is_write(effect: Effect) -> bool:
    """Whether a call needs a durable intent before it."""
    return effect in ("write", "idempotent_write")


def fold(events: Iterable[Event | Draft], ledger: Ledger | None = None) -> Ledger:
    """The ledger after ``events`` of one run, in order; goes on from ``ledger``. Raises as ``apply``."""
    state = Ledger() if ledger is None else ledger
    for event in events:
        state = apply(state, event.body, task=event.task or "", at=event.at, attempt=event.attempt)
    return state


def apply(ledger: Ledger, body: Body, *, task: str, at: datetime | None = None, attempt: int | None = None) -> Ledger:
    """The ledger after one event; bodies it has no use for leave it as it is.

    Raises:
        StoreCorrupt: The events contradict the rules: another call under a known key, the end of a call that
            was never intended, an approval that is consumed twice. They were not written by this code, or the
            ledger was bypassed.
    """
    match body:
        case ToolIntended():
            return _intended(ledger, body, task=task, at=at, attempt=attempt)
        case ToolFinished(key=str(key)):
            if key not in ledger.entries and not (body.result.is_ok and is_write(body.effect)):
                return ledger  # it was refused before it began, or only looked
            return _changed(ledger, key, "finished", body.result)
        case ToolOutcomeUnknown(key=key):
            return _changed(ledger, key, "unknown", None)
        case ApprovalRequested(kind="tool" | "outcome", approval=approval):
            return msgspec.structs.replace(ledger, asked={**ledger.asked, approval: Question(request=body)})
        case ApprovalAnswered(approval=approval) if approval in ledger.asked:
            return _answered(ledger, body)
        case RunForked():
            # The parent's calls that were under way, and what was asked about them, are its own business.
            under_way = ("open", "retry")
            entries = {k: _void(e) if e.state in under_way else e for k, e in ledger.entries.items()}
            return msgspec.structs.replace(ledger, entries=entries, asked={})
    return ledger


def decide(ledger: Ledger, call: Call, *, rule: str | None = None) -> Decision:
    """What to do about ``call``, as the ledger stands; ``rule`` says why a person has to allow it, if one has to.

    A person's answer holds for the call it was asked about and nothing else, and is consumed by its intent.

    Raises:
        ToolError: Its key stands on the ledger with another tool or other arguments: the conversation was
            changed under it.
    """
    entry = ledger.entries.get(call.key)
    if entry is not None:
        _check_same(entry, call.tool, call.arguments_sha256)
        match entry.state:
            case "finished":
                return Decision(admission="known", entry=entry)
            case "open":
                return Decision(admission="settle", entry=entry)
            case "unknown":
                return Decision(admission="ask", entry=entry)
            case "retry":
                answer = ledger.asked[entry.approval].answer if entry.approval in ledger.asked else None
                return Decision(admission="call", entry=entry, answer=answer)
    like = repeated(ledger, call)
    question = ledger.about(call)
    if question is not None and question.answer is not None:
        admission: Admission = "call" if question.answer.answer == "approve" else "refused"
        return Decision(admission=admission, like=like, answer=question.answer)
    if like or rule is not None:
        return Decision(admission="approval", like=like)
    return Decision(admission="call", entry=entry, like=like)


def repeated(ledger: Ledger, call: Call) -> tuple[Entry, ...]:
    """Writes of this run with the same tool and arguments, from other steps; none unless ``call`` is a ``write``.

    In a fork also what its parents wrote with the same tool behind the shared event, whatever the arguments: another
    model words the same letter differently. An ``idempotent_write`` is not asked about: doing it again is what it was
    declared to bear.
    """
    if call.effect != "write":
        return ()
    return tuple(e for e in ledger.elsewhere if e.tool == call.tool and e.effect == "write") + tuple(
        e
        for e in ledger.entries.values()
        if (e.tool, e.arguments_sha256) == (call.tool, call.arguments_sha256)
        and (e.task, e.step) != (call.task, call.step)
        and is_write(e.effect)
        and e.state != "void"
        and e.has_happened
    )


def intended_before(ledger: Ledger, call: Call) -> Entry | None:
    """The first write that ``call``, which is intended, repeats and that was intended before it in this run."""
    order = {key: place for place, key in enumerate(ledger.entries)}
    mine = order.get(call.key, -1)
    return next((e for e in repeated(ledger, call) if order.get(e.key, mine) < mine), None)


def written_since(whole: Iterable[Event], shared: Ledger) -> tuple[Entry, ...]:
    """The writes in all of a parent's past that may have happened behind what its fork shares.

    ``shared`` is the parent's ledger at that point: what was open in it may have been finished later, or never.
    """
    settled = {k for k, e in shared.entries.items() if e.state in ("finished", "unknown", "void")}
    entries = (e for k, e in fold(whole).entries.items() if k not in settled)
    return tuple(e for e in entries if is_write(e.effect) and e.state != "void" and e.has_happened)


def judge_at(lapsed_at: datetime, timeout_s: float) -> datetime:
    """The earliest moment to judge an open call: until then the old worker may still be in it."""
    return lapsed_at + timedelta(seconds=timeout_s)


def after_lapse(effect: Effect, reconciled: Reconciled | None = None) -> NextAct:
    """How a call goes on whose worker is dead, not before ``judge_at``.

    ``pure``, ``read`` and ``idempotent_write`` run again. A ``write`` only after ``reconcile`` has said that the far
    side refuses its key from now on, and so under another one; what nobody knows, a person is asked.
    """
    if effect != "write":
        return "again"
    if reconciled is None:
        return "reconcile"
    match reconciled.state:
        case "done":
            return "finish"
        case "voided":
            return "anew"
        case "unknown":
            return "ask"


def _intended(ledger: Ledger, body: ToolIntended, *, task: str, at: datetime | None, attempt: int | None) -> Ledger:
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
        at=at,
        attempt=attempt,
    )
    consumed = ledger.consumed if body.approval is None else ledger.consumed | {body.approval}
    before = {k: _replaced(e, entry) for k, e in ledger.entries.items()}
    return msgspec.structs.replace(ledger, entries={**before, body.key: entry}, consumed=consumed)


def _answered(ledger: Ledger, body: ApprovalAnswered) -> Ledger:
    """The ledger after a person's answer; one about an unknown outcome settles the call."""
    request = ledger.asked[body.approval].request
    asked = {**ledger.asked, body.approval: Question(request=request, answer=body)}
    entry = ledger.entries.get(request.key or "")
    if request.kind != "outcome" or entry is None or entry.state != "unknown":
        return msgspec.structs.replace(ledger, asked=asked)
    because = f": {body.reason}" if body.reason else ""
    match body.answer:
        case "done":
            text = f"{body.principal} confirmed that {entry.tool} took place; what it gave is not known{because}"
            entry = msgspec.structs.replace(entry, state="finished", result=ToolResult(text=text))
        case "not-done":
            result = ToolResult(text=f"{entry.tool} did not take place, says {body.principal}{because}", is_ok=False)
            entry = msgspec.structs.replace(entry, state="finished", result=result, has_happened=False)
        case "retry":
            entry = msgspec.structs.replace(entry, state="retry", approval=body.approval)
    return msgspec.structs.replace(ledger, entries={**ledger.entries, entry.key: entry}, asked=asked)


def _changed(ledger: Ledger, key: str, state: State, result: ToolResult | None) -> Ledger:
    entry = ledger.entries.get(key)
    if entry is None:
        raise StoreCorrupt(f"the journal ends the call {key}, which was never intended", key=key)
    changed = msgspec.structs.replace(entry, state=state, result=result)
    return msgspec.structs.replace(ledger, entries={**ledger.entries, key: changed})


def _void(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, state="void")


def _replaced(old: Entry, new: Entry) -> Entry:
    """An open call that was voided and is made anew under another key is over."""
    is_same_call = (old.task, old.step, old.call) == (new.task, new.step, new.call)
    return _void(old) if is_same_call and old.key != new.key and old.state == "open" else old


def _check_same(entry: Entry, tool: str, sha256: str) -> None:
    if (entry.tool, entry.arguments_sha256) != (tool, sha256):
        raise ToolError(
            f"call {entry.call} of step {entry.step} of task {entry.task} was intended as {entry.tool} with "
            f"arguments {entry.arguments_sha256[:12]}; it cannot become {tool} with {sha256[:12]}",
            key=entry.key,
        )
