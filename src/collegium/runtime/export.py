"""Exports: a run in one file, with everything that shows what it did and that nobody has changed it.

JSON lines: a header; the events of the run, of its parents and of the run it goes on from, with exactly the bytes that
were hashed (text, as they are JSON), salt and mac; the blobs they name; a last line that says how many there were. So
the chain verifies without the store (under the same key), and the run can be replayed anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from collegium.domain import body as b
from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.errors import NotFound, StoreError, UnreadableInput
from collegium.domain.event import Event, decode_body
from collegium.domain.head import Head
from collegium.ports import Archive, Journal, Records
from collegium.runtime import history
from collegium.runtime.kept import Kept, archive_of
from collegium.runtime.pins import PinnedThings, pinned_things, profile_of

FORMAT: Final = 1
"""Version of the file's format."""
_NAME = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_KEY_TEXT: Final = b"collegium: which key is this"


class _Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="collegium-export"):
    """``heads``: every run in the file, as it stood, the exported one last. ``key``: tells chain keys apart."""

    format: int
    run: str
    tenant: str
    exported_at: datetime
    key: str
    heads: tuple[Head, ...]
    things: PinnedThings = PinnedThings()


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="event", omit_defaults=True):
    run: str
    seq: int
    id: str
    tenant: str
    type: str
    v: int
    at_us: int
    salt: str
    digest: str
    mac: str
    task: str | None = None
    attempt: int | None = None
    body: str | None = None


class _Blob(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="blob"):
    sha256: str
    data: str


class _End(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end"):
    events: int
    blobs: int


_decode = msgspec.json.Decoder(_Header | _Event | _Blob | _End).decode
_encode = msgspec.json.Encoder().encode


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at an export has found.

    ``chain``: ``intact``; ``broken`` at ``run`` and ``seq``; or ``other key``: nobody without that key can say.
    """

    chain: Literal["intact", "broken", "other key"]
    events: int
    run: str | None = None
    seq: int | None = None


class Export:
    """An export that was read."""

    def __init__(self, header: _Header, links: dict[str, list[Link]], blobs: dict[str, bytes]) -> None:
        self._header = header
        self._links = links
        self.blobs = blobs

    @property
    def run(self) -> str:
        """The exported run."""
        return self._header.run

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._header.tenant

    @property
    def heads(self) -> tuple[Head, ...]:
        """Every run in it, as it stood, the exported one last."""
        return self._header.heads

    @property
    def things(self) -> PinnedThings:
        """The agents, tools and models that the run began with."""
        return self._header.things

    def links(self, run: str) -> tuple[Link, ...]:
        """The events of a run as stored."""
        return tuple(self._links.get(run, ()))

    async def read(self, run: str, after: int = 0, limit: int = history.PAGE) -> tuple[Event, ...]:
        """Events of ``run`` with ``seq > after``, in order. Raises ``NotFound`` where a body was removed."""
        rows = [link for link in self._links.get(run, ()) if link.seq > after]
        return tuple(map(_to_event, rows[:limit]))

    def check(self, key: bytes) -> Checked:
        """Whether every event is as it was written, under the chain key."""
        count = sum(map(len, self._links.values()))
        if self._header.key != key_name(key):
            return Checked(chain="other key", events=count)
        for head in self.heads:
            bad = chain.verify(key, self.links(head.run), head=(head.seq, bytes.fromhex(head.mac)))
            if bad is not None:
                return Checked(chain="broken", events=count, run=head.run, seq=bad)
        return Checked(chain="intact", events=count)


def key_name(key: bytes) -> str:
    """A name for a chain key that does not tell it."""
    return hmac.digest(key, _KEY_TEXT, "sha256").hex()[:16]


async def export(run: str, stores: Kept, *, tenant: str, now: datetime, key: bytes) -> AsyncIterator[bytes]:
    """The lines of the export of ``run``, each with its end of line.

    Raises:
        NotFound: no such run, or it was pruned.
        UsageError: the stores keep no archive.
    """
    archive, journal, blobs, records = archive_of(stores), stores.journal, stores.blobs, stores.records
    runs = await _runs(journal, run, tenant)
    heads = [await _head(journal, archive, one) for one in runs]
    things = await _things(journal, records, run, tenant)
    header = _Header(
        format=FORMAT, run=run, tenant=tenant, exported_at=now, key=key_name(key), heads=tuple(heads), things=things
    )
    yield _encode(header) + b"\n"
    names: dict[str, None] = {}
    count = 0
    for head in heads:
        after = 0
        while after < head.seq and (links := await archive.links(head.run, after, min(1_000, head.seq - after))):
            for link in links:
                names.update((name.decode(), None) for name in _NAME.findall(link.body or b""))
                yield _encode(_line(link)) + b"\n"
            count, after = count + len(links), links[-1].seq
    kept = 0
    for name in names:
        try:
            data = await blobs.get(tenant, name)
        except NotFound:
            continue  # the hash of something else
        kept += 1
        yield _encode(_Blob(sha256=name, data=base64.b64encode(data).decode())) + b"\n"
    yield _encode(_End(events=count, blobs=kept)) + b"\n"


def parse(lines: Iterable[bytes], *, source: str = "the file") -> Export:
    """The export in ``lines``. Raises ``UnreadableInput`` for what is none, is cut off, or was made by a newer one."""
    header: _Header | None = None
    links: dict[str, list[Link]] = {}
    blobs: dict[str, bytes] = {}
    end: _End | None = None
    for number, line in enumerate(lines, start=1):
        try:
            match _decode(line):
                case _Header() as header:
                    if header.format > FORMAT:
                        raise UnreadableInput(f"{source} was exported by a newer collegium: upgrade to read it")
                case _Event() as event:
                    links.setdefault(event.run, []).append(_link(event))
                case _Blob() as blob:
                    blobs[blob.sha256] = _data(blob, source, number)
                case _End() as end:
                    pass
        except (msgspec.MsgspecError, ValueError) as error:
            raise UnreadableInput(f"{source} is no export: line {number} cannot be read ({error})") from error
    if header is None:
        raise UnreadableInput(f"{source} is no export: it has no header")
    if end is None or (end.events, end.blobs) != (sum(map(len, links.values())), len(blobs)):
        raise UnreadableInput(f"{source} is cut off: export the run again")
    return Export(header, links, blobs)


async def _runs(journal: Journal, run: str, tenant: str) -> list[str]:
    """The run behind everything it needs: its parents, the first one first, and the run it goes on from."""
    head = await journal.head(run)
    if head is None or head.tenant != tenant:
        raise NotFound(f"there is no run {run}", run=run)
    found: dict[str, None] = {}
    for one in (await _continued(journal, run), run):
        if one is not None and (first := await journal.read(one, 0, 1)):
            found.update((parent, None) for parent, _ in reversed(await history.parents(journal, first[0])))
            found[one] = None
    return list(found)


async def _continued(journal: Journal, run: str) -> str | None:
    async for page in history.past(journal, run):
        for event in page:
            if isinstance(event.body, b.RunSubmitted):
                return event.body.goal.continues
    return None


async def _head(journal: Journal, archive: Archive, run: str) -> Head:
    tombstone = await archive.tombstone(run)
    head = await journal.head(run)
    if head is None:
        raise NotFound(f"there is no run {run}", run=run)
    if tombstone is None:
        return head
    if not tombstone.kept:
        raise NotFound(str(tombstone), run=run, pruned=True)
    last = (await archive.links(run, tombstone.kept - 1, 1))[0]
    return msgspec.structs.replace(head, seq=last.seq, mac=last.mac.hex())


async def _things(journal: Journal, records: Records, run: str, tenant: str) -> PinnedThings:
    pins: dict[str, str] = {}
    models: set[str] = set()
    async for page in history.past(journal, run):
        for event in page:
            if isinstance(event.body, b.RunSubmitted | b.RunForked):
                pins = event.body.pins
            elif isinstance(event.body, b.TaskStarted):
                models.add(event.body.model)
    things = await pinned_things(records, tenant, pins)
    others = {name: await profile_of(records, tenant, name) for name in models - things.models.keys()}
    return msgspec.structs.replace(things, models={**things.models, **{n: p for n, p in others.items() if p}})


def _line(link: Link) -> _Event:
    return _Event(
        run=link.run,
        seq=link.seq,
        id=link.id,
        tenant=link.tenant,
        type=link.type,
        v=link.v,
        at_us=link.at_us,
        task=link.task,
        attempt=link.attempt,
        salt=link.salt.hex(),
        digest=link.digest.hex(),
        mac=link.mac.hex(),
        body=None if link.body is None else link.body.decode(),
    )


def _link(event: _Event) -> Link:
    fields: dict[str, Any] = {k: getattr(event, k) for k in Link._fields if k not in ("salt", "digest", "mac", "body")}
    return Link(
        **fields,
        salt=bytes.fromhex(event.salt),
        digest=bytes.fromhex(event.digest),
        mac=bytes.fromhex(event.mac),
        body=None if event.body is None else event.body.encode(),
    )


def _data(blob: _Blob, source: str, number: int) -> bytes:
    data = base64.b64decode(blob.data, validate=True)
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise UnreadableInput(f"{source} was changed: the blob in line {number} is not what it is named by")
    return data


def _to_event(link: Link) -> Event:
    if link.body is None:
        raise NotFound(f"what event {link.seq} of {link.run} said was removed", run=link.run, seq=link.seq)
    try:
        body = decode_body(link.type, link.v, link.body)
    except StoreError as error:
        raise UnreadableInput(f"event {link.seq} of {link.run}: {error.message}", run=link.run) from error
    return Event(
        id=link.id,
        tenant=link.tenant,
        run=link.run,
        seq=link.seq,
        type=link.type,
        v=link.v,
        at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=link.at_us),
        body=body,
        mac=link.mac.hex(),
        task=link.task,
        attempt=link.attempt,
    )
