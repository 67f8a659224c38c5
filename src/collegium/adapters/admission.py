"""What every journal checks before it stores an append: one set of rules for all stores.

``prepare`` runs in the caller and finds wrong use; ``admit`` runs inside the store's transaction and says what the
append does to the run's head and fences, or refuses it; ``Doubts`` remembers attempts whose earlier appends failed.
Source: ``docs/explanation/journal.md``, "Append" and "Attempts".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from collegium.adapters.rows import Entry, FenceRow, HeadRow, require_text, to_us
from collegium.domain.body import TaskStarted
from collegium.domain.errors import CollegiumError, Conflict, Fenced, NotFound, StoreError
from collegium.domain.event import DECIDING, VERSIONS, Draft, encode_body, fence_change
from collegium.domain.head import Fence, HeadChange

_LIMIT_ATTEMPTS: Final = 2**31


class Append(NamedTuple):
    """A checked request to append ``entries`` to ``run``."""

    run: str
    tenant: str
    entries: tuple[Entry, ...]
    expected: int | None
    fences: tuple[Fence, ...]
    head: HeadChange | None

    @property
    def begun(self) -> tuple[Fence, ...]:
        """The attempts it is written for that had begun before: not those it starts itself."""
        started = {entry.draft.task for entry in self.entries if entry.type == "task.started"}
        return tuple(fence for fence in self.fences if fence.task not in started)


class Admitted(NamedTuple):
    """What an append does: the new head (its mac still the old one) and the fence rows that change."""

    head: HeadRow
    fences: dict[str, FenceRow]


def prepare(
    run: str,
    drafts: Sequence[Draft],
    *,
    expected: int | None,
    fence: Fence | tuple[Fence, ...] | None,
    head: HeadChange | None,
) -> Append:
    """The request, with every body encoded. Raises ValueError where the call itself is wrong."""
    if not drafts:
        raise ValueError(f"an append to {run} has no events")
    tenant = drafts[0].tenant
    entries = []
    is_deciding = False
    for draft in drafts:
        if draft.tenant != tenant:
            raise ValueError(f"an append to {run} mixes the tenants {tenant!r} and {draft.tenant!r}")
        type_ = draft.type
        is_deciding = is_deciding or type_ in DECIDING
        _check_envelope(run, draft, type_)
        entries.append(Entry(draft, type_, VERSIONS[type_], to_us(draft.at), encode_body(draft.body)))
    if is_deciding != (head is not None):
        what = "has a deciding event and no head" if is_deciding else "changes the head without a deciding event"
        raise ValueError(f"an append to {run} {what}")
    require_text("" if head is None else head.project)
    fences = () if fence is None else (fence,) if isinstance(fence, Fence) else fence
    return Append(run, tenant, tuple(entries), expected, fences, head)


def _check_envelope(run: str, draft: Draft, type_: str) -> None:
    """Finds what no store could keep, before it stands in a transaction together with others."""
    if fence_change(type_) in {"create", "start"} and (draft.task is None or draft.attempt is None):
        raise ValueError(f"{type_} in {run} needs a task and an attempt in its envelope")
    if draft.attempt is not None and not 0 <= draft.attempt < _LIMIT_ATTEMPTS:
        raise ValueError(f"{draft.attempt} is no attempt of {draft.task} in {run}")
    worker = draft.body.worker if isinstance(draft.body, TaskStarted) else ""
    require_text(run, draft.id, draft.tenant, draft.task or "", worker)


def admit(append: Append, head: HeadRow | None, fence_of: Callable[[str], FenceRow | None]) -> Admitted:
    """What ``append`` does to a run with this ``head``; ``fence_of(task)`` reads its fence rows.

    Raises:
        Fenced: the attempt it is written for is not the newest open one.
        Conflict: ``expected`` is not the last deciding seq, or an attempt is created out of turn.
        NotFound: the run does not exist, or is another tenant's.
    """
    run = append.run
    if head is not None and head.tenant != append.tenant:
        raise NotFound(f"tenant {append.tenant!r} has no run {run}", run=run)
    for fence in append.fences:
        _require_open(run, fence.task, fence.attempt, fence_of(fence.task))
    if append.expected is not None:
        last = 0 if head is None else head.deciding_seq
        if append.expected != last:
            raise Conflict(
                f"{run} was decided up to event {append.expected} here and is at event {last} in the store: "
                "reload it and decide again",
                run=run,
                expected=append.expected,
                deciding_seq=last,
            )
    if head is None and append.expected is None:
        raise NotFound(f"there is no run {run}; the first append of a run has expected=0", run=run)
    return Admitted(_advanced(append, head), _fences(append, fence_of))


def _advanced(append: Append, head: HeadRow | None) -> HeadRow:
    seq, deciding_seq = (0, 0) if head is None else (head.seq, head.deciding_seq)
    for entry in append.entries:
        seq += 1
        if entry.type in DECIDING:
            deciding_seq = seq
    if append.head is not None:
        wake_us = None if append.head.wake_at is None else to_us(append.head.wake_at)
        mac, project = (bytes(32), append.head.project) if head is None else (head.mac, head.project)
        return HeadRow(append.tenant, append.head.status, seq, mac, deciding_seq, wake_us, project)
    if head is None:
        raise Conflict(f"{append.run} cannot begin with a recording event", run=append.run)
    return head._replace(seq=seq)


def _fences(append: Append, fence_of: Callable[[str], FenceRow | None]) -> dict[str, FenceRow]:
    changed: dict[str, FenceRow] = {}
    for entry in append.entries:
        change, task, attempt = fence_change(entry.type), entry.draft.task, entry.draft.attempt
        if change is None or task is None or attempt is None:
            continue  # a skipped task is settled without an attempt and has nothing to close
        row = changed[task] if task in changed else fence_of(task)
        if change == "create":
            changed[task] = _created(append.run, task, attempt, row)
        elif change == "start":
            opened = _require_open(append.run, task, attempt, row)
            if opened.worker is not None:
                raise _fenced(append.run, task, attempt, f"is started already, by {opened.worker}")
            body = entry.draft.body
            worker = body.worker if isinstance(body, TaskStarted) else ""
            changed[task] = FenceRow(attempt, worker, is_open=True)
        else:
            changed[task] = _require_open(append.run, task, attempt, row)._replace(is_open=False)
    return changed


def _created(run: str, task: str, attempt: int, row: FenceRow | None) -> FenceRow:
    newest = 0 if row is None else row.attempt
    if row is not None and row.is_open:
        raise Conflict(f"attempt {newest} of task {task} in {run} is still open", run=run, task=task, attempt=newest)
    if attempt != newest + 1:
        raise Conflict(
            f"attempt {attempt} of task {task} in {run} cannot be created: the next one is {newest + 1}",
            run=run,
            task=task,
            attempt=attempt,
        )
    return FenceRow(attempt, None, is_open=True)


def _require_open(run: str, task: str, attempt: int, row: FenceRow | None) -> FenceRow:
    if row is None or attempt > row.attempt:
        raise _fenced(run, task, attempt, "was never created")
    if attempt < row.attempt:
        raise _fenced(run, task, attempt, f"was followed by attempt {row.attempt}")
    if not row.is_open:
        raise _fenced(run, task, attempt, "is closed")
    return row


def _fenced(run: str, task: str, attempt: int, why: str) -> Fenced:
    return Fenced(f"attempt {attempt} of task {task} in {run} {why}", run=run, task=task, attempt=attempt)


class Doubts:
    """Attempts of this process whose earlier appends failed: nothing may be stored that was ordered in ignorance of it.

    An effect can never be durable without its cause, and appends are ordered before anybody knows whether those before
    them were stored. A ``Fenced`` refusal needs no memory: the fence row refuses for ever. A ``StoreError`` puts the
    attempt in doubt for good (a decision closes it and creates the next one). A ``Conflict`` is undone by deciding
    again: what was ordered before the caller heard of it fails, what comes later is welcome. A failed *start* casts no
    doubt: the attempt may belong to somebody else here.
    """

    def __init__(self) -> None:
        self._doubts: dict[tuple[str, str, int], _Doubt] = {}
        self._tickets = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._doubts)

    def ticket(self) -> int:
        """A number for the next append; later ones are larger."""
        self._tickets += 1
        return self._tickets

    def check(self, append: Append, ticket: int) -> None:
        """Raises ``Fenced`` when an earlier append of the same attempt failed and the caller could not know."""
        for key in _keys(append, append.fences):
            doubt = self._doubts.get(key)
            if doubt is not None and (doubt.is_lasting or doubt.unheard or ticket <= doubt.until):
                run, task, attempt = key
                raise Fenced(
                    f"an earlier append of attempt {attempt} of task {task} in {run} was not stored, nor is this one",
                    run=run,
                    task=task,
                    attempt=attempt,
                )

    def failed(self, append: Append, error: CollegiumError, receipt: object) -> None:
        """Takes note that ``append`` was not stored; ``receipt`` is what its caller waits on."""
        with self._lock:
            for key in _keys(append, append.begun):
                if isinstance(error, StoreError | Conflict) or key in self._doubts:
                    doubt = self._doubts.setdefault(key, _Doubt())
                    doubt.is_lasting = doubt.is_lasting or isinstance(error, StoreError)
                    doubt.unheard.add(receipt)

    def heard(self, append: Append, receipt: object) -> None:
        """Takes note that the caller knows of the failure of ``append``."""
        with self._lock:
            for key in _keys(append, append.begun):
                if key in self._doubts and receipt in self._doubts[key].unheard:
                    # In this order: the writer's thread must never see both unset.
                    self._doubts[key].until = self._tickets
                    self._doubts[key].unheard.discard(receipt)

    def closed(self, run: str, task: str, attempt: int) -> None:
        """Forgets an attempt that is closed: from now on its fence row refuses."""
        with self._lock:
            self._doubts.pop((run, task, attempt), None)


class _Doubt:
    __slots__ = ("is_lasting", "unheard", "until")

    def __init__(self) -> None:
        self.is_lasting = False
        self.unheard: set[object] = set()
        self.until = 0


def _keys(append: Append, fences: tuple[Fence, ...]) -> list[tuple[str, str, int]]:
    return [(append.run, fence.task, fence.attempt) for fence in fences]
