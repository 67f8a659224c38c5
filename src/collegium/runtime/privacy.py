"""Privacy: what a tenant holds of one of its principals, in one file; and its erasure, with proof.

The subject is a principal: ``user:ada``, ``key:<id>``, ``local``. Its data are the runs it submitted or forked, those
that its schedules fired, with all they said, were given, indexed and left in their work folders; and the records under
its name. Lines of the administrative log and what it answered in other people's runs stay: they show who decided, and
name the principal alone.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from collegium.domain import body as b
from collegium.domain.document import InputFile
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.event import Event
from collegium.domain.head import FINISHED, Head, HeadQuery
from collegium.domain.record import Record
from collegium.domain.redaction import Redactor
from collegium.domain.tombstone import Tombstone
from collegium.knowledge.library import Library
from collegium.runtime.heads import heads_of
from collegium.runtime.kept import Kept, archive_of
from collegium.runtime.retention import Retention

_PAGE: Final = 200
_MOST_NAMED: Final = 20
SECRET_FIELDS: Final = frozenset({"digest", "old_digest", "pepper", "secrets", "secret"})


class Held(NamedTuple):
    """Records under somebody's name.

    Attributes:
        name: What they are called in exports and proofs.
        kind: Of the records.
        tenant: Of the records; None where it is the subject's own.
        owner: Where in the value the principal stands, by dots.
        of: Where in the value the subject's tenant stands; empty where it is that of the record.
        beside: Another kind of record with the same key, in the subject's tenant.
    """

    name: str
    kind: str
    tenant: str | None
    owner: str
    of: str = ""
    beside: str = ""


HELD: Final = (
    Held("schedules", "schedule", "~schedules", "added_by", "tenant", beside="schedule_goal"),
    Held("keys", "api_key", "~keys", "created_by", "tenant"),
    Held("webhooks", "webhook", "~webhooks", "created_by", "tenant"),
    Held("sessions", "session", "~slips", "principal.id", "principal.tenant"),
    Held("tickets", "ticket", "~slips", "principal.id", "principal.tenant"),
    Held("uploads", "upload", None, "principal"),
    Held("feedback", "feedback", None, "principal"),
)
"""Every kind of record that has an owner. Whoever adds one adds it here."""


OF_RUNS: Final = ("idempotency", "conversation")
"""Kinds of records whose value names a run in ``run``: they go with it."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a principal: its runs by id with their status, and its records by name and key."""

    subject: str
    tenant: str
    runs: dict[str, str]
    records: dict[str, tuple[str, ...]]

    @property
    def going(self) -> tuple[str, ...]:
        """Runs that have not ended."""
        return tuple(run for run, status in self.runs.items() if status not in FINISHED)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run could not be erased, and why."""

    run: str
    why: str


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased.

    Attributes:
        tombstones: What is left of each run: number and mac of its last event, under a signature of the chain key.
        documents: Files whose place in the index went; those that other runs were given as well stay.
        blobs: Contents that nobody names any more and that were removed.
        folders: Work folders.
        records: How many of each name.
        left: What stays, and why; empty where nothing does.
        blobs_due_at: Contents younger than an hour are removed by the next erasure or prune from then on.
    """

    subject: str
    tenant: str
    at: datetime
    tombstones: tuple[Tombstone, ...]
    documents: int
    blobs: int
    folders: int
    records: dict[str, int]
    left: tuple[Left, ...] = ()
    blobs_due_at: datetime | None = None


class Privacy:
    """Finds, exports and erases what is held of principals.

    Args:
        stores: Where it is.
        retention: Removes runs.
        library: Has their documents in its index; without one there is none.
        now: The time of day.
        redactor: Takes secrets of the installation out of exports, should there be any.
    """

    def __init__(
        self,
        stores: Kept,
        retention: Retention,
        *,
        library: Library | None,
        now: Callable[[], datetime],
        redactor: Redactor | None = None,
    ) -> None:
        self._stores = stores
        self._retention = retention
        self._library = library
        self._now = now
        self._redactor = redactor or Redactor()

    async def find(self, tenant: str, subject: str) -> Subject:
        """What there is now; every run of the tenant is looked at."""
        records = {held.name: tuple([r.key async for r in self._records(held, tenant, subject)]) for held in HELD}
        own = {subject, *(f"schedule:{key}" for key in records["schedules"])}
        if subject.startswith("key:"):
            records["keys"] = tuple(dict.fromkeys((*records["keys"], subject.removeprefix("key:"))))
        runs: dict[str, str] = {}
        async for head in heads_of(self._stores.journal, HeadQuery(tenant=tenant, limit=_PAGE)):
            first = await self._first(head)
            if first is not None and _asked_by(first) in own:
                runs[head.run] = head.status
        return Subject(
            subject=subject, tenant=tenant, runs=runs, records={name: keys for name, keys in records.items() if keys}
        )

    async def export(self, tenant: str, subject: str) -> AsyncIterator[bytes]:
        """Everything that is held, one JSON document a line; contents of files in Base64. No secrets are among it."""
        found = await self.find(tenant, subject)
        yield self._line({"subject": subject, "tenant": tenant, "at": self._now(), "runs": len(found.runs)})
        for held in HELD:
            async for record in self._records(held, tenant, subject):
                yield self._line({held.name: _without_secrets(record.value), "id": record.key})
        sent: set[str] = set()
        for run in found.runs:
            async for event in self._events(run):
                yield self._line({"event": event})
                for file in _files(event):
                    if file.sha256 not in sent:
                        sent.add(file.sha256)
                        yield self._line({"file": file, "base64": await self._content(tenant, file)})

    async def erase(self, tenant: str, subject: str) -> Erased:
        """Removes what can be removed; what a crash has left, the next time removes.

        Raises:
            Conflict: Runs of the subject have not ended: cancel them first. Nothing was removed.
        """
        found = await self.find(tenant, subject)
        if found.going:
            named = ", ".join(found.going[:_MOST_NAMED])
            raise Conflict(f"{len(found.going)} runs of {subject} go on: cancel them first ({named})", runs=found.going)
        given = [f for run in found.runs async for event in self._events(run) for f in _files(event)]
        given += await self._uploaded(tenant, subject)
        # The runs go last: as long as they are there, the next time finds all that belongs to them.
        records = await self._remove_records(tenant, found)
        gone = await self._unnamed(tenant, given, but=found.runs)
        documents = 0 if self._library is None else await self._library.forget(tenant, gone)
        pruned = await self._retention.remove(tenant, tuple(found.runs))
        tombstones = [t for run in found.runs if (t := await archive_of(self._stores).tombstone(run)) is not None]
        left = [
            Left(run=t.run, why=f"its first {t.kept} events stay: somebody else's run was forked from it")
            for t in tombstones
            if t.kept
        ]
        left += [Left(run=run, why="it moved meanwhile: erase once more") for run in pruned.skipped]
        return Erased(
            subject=subject,
            tenant=tenant,
            at=self._now(),
            tombstones=tuple(tombstones),
            documents=documents,
            blobs=pruned.blobs,
            folders=pruned.folders,
            records=records,
            left=tuple(left),
            blobs_due_at=self._retention.due_at() if await self._has_any(tenant, gone) else None,
        )

    async def _first(self, head: Head) -> Event | None:
        """The first event of a run; None where it was removed."""
        try:
            events = await self._stores.journal.read(head.run, 0, 1)
        except NotFound:
            return None
        return events[0] if events else None

    async def _events(self, run: str) -> AsyncIterator[Event]:
        after = 0
        while True:
            try:
                events = await self._stores.journal.read(run, after, _PAGE)
            except NotFound:  # what it said was pruned
                return
            for event in events:
                yield event
            if not events:
                return
            after = events[-1].seq

    async def _uploaded(self, tenant: str, subject: str) -> list[InputFile]:
        """What was handed over for goals to come."""
        found = []
        for held in HELD:
            if held.name == "uploads":
                async for record in self._records(held, tenant, subject):
                    sha256 = str(_at(record.value, "sha256") or "")
                    found.append(InputFile(path=record.key, sha256=sha256, size_bytes=0))
        return found

    async def _content(self, tenant: str, file: InputFile) -> str | None:
        try:
            return base64.b64encode(await self._stores.blobs.get(tenant, file.sha256)).decode()
        except NotFound:
            return None

    async def _records(self, held: Held, tenant: str, subject: str) -> AsyncIterator[Record]:
        after, place = "", tenant if held.tenant is None else held.tenant
        while page := await self._stores.records.find(held.kind, place, after=after, limit=_PAGE):
            for record in page:
                is_theirs = not held.of or _at(record.value, held.of) == tenant
                if is_theirs and (_at(record.value, held.owner) == subject or _is_key(held, record, subject)):
                    yield record
            after = page[-1].key

    async def _remove_records(self, tenant: str, found: Subject) -> dict[str, int]:
        removed: dict[str, int] = {}
        for held in HELD:
            for record in [r async for r in self._records(held, tenant, found.subject)]:
                await self._stores.records.delete(held.kind, record.tenant, record.key)
                if held.beside:
                    await self._stores.records.delete(held.beside, tenant, record.key)
                removed[held.name] = removed.get(held.name, 0) + 1
        for kind in OF_RUNS:
            after = ""
            while page := await self._stores.records.find(kind, tenant, after=after, limit=_PAGE):
                for record in page:
                    if _at(record.value, "run") in found.runs:
                        await self._stores.records.delete(kind, tenant, record.key)
                        removed[kind] = removed.get(kind, 0) + 1
                after = page[-1].key
        return removed

    async def _unnamed(self, tenant: str, given: Sequence[InputFile], *, but: Container[str]) -> list[InputFile]:
        """Those of the files that no schedule names and no run, those in ``but`` left out."""
        wanted = {file.sha256 for file in given}
        if not wanted:
            return []
        async for head in heads_of(self._stores.journal, HeadQuery(tenant=tenant, limit=_PAGE)):
            first = None if head.run in but else await self._first(head)
            wanted -= set() if first is None else {file.sha256 for file in _files(first)}
        after = ""
        while page := await self._stores.records.find("schedule_goal", tenant, after=after, limit=_PAGE):
            text = msgspec.json.encode([record.value for record in page]).decode()
            wanted = {sha256 for sha256 in wanted if sha256 not in text}
            after = page[-1].key
        return [file for file in given if file.sha256 in wanted]

    async def _has_any(self, tenant: str, files: Sequence[InputFile]) -> bool:
        return any([await self._content(tenant, file) is not None for file in files])

    def _line(self, document: Mapping[str, Any]) -> bytes:
        plain = msgspec.to_builtins(document, enc_hook=str)
        content = plain.pop("base64", None)
        plain = self._redactor.value(plain)
        return msgspec.json.encode(plain if content is None else plain | {"base64": content}) + b"\n"


def proof_of(erased: Erased) -> dict[str, Any]:
    """``erased`` as the administrative log keeps it: each run with its last ``(seq, mac)`` and its signature."""
    runs = [[t.run, t.seq, t.mac, t.signature] for t in erased.tombstones]
    counts = {"documents": erased.documents, "blobs": erased.blobs, "folders": erased.folders}
    return {"runs": runs, **counts, "records": erased.records, "left": [one.run for one in erased.left]}


def _asked_by(first: Event) -> str:
    """Who asked for the run that begins with this event."""
    match first.body:
        case b.RunSubmitted(goal=goal):
            return goal.principal
        case b.RunForked(principal=principal):
            return principal
    return ""


def _files(event: Event) -> tuple[InputFile, ...]:
    return event.body.goal.files if isinstance(event.body, b.RunSubmitted) else ()


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _is_key(held: Held, record: Record, subject: str) -> bool:
    """Whether the record is the key that the subject is."""
    return held.kind == "api_key" and subject == f"key:{record.key}"


def _without_secrets(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in SECRET_FIELDS} if isinstance(value, dict) else value
