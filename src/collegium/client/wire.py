"""What passes between client and server that is no type of the domain."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from collegium.domain.chat import Json, ModelProfile
from collegium.domain.event import VERSIONS, Event, decode_body
from collegium.domain.head import RunStatus

T = TypeVar("T")


class Items(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list; ``next`` is the cursor of the following one."""

    items: tuple[T, ...]
    next: str | None = None


class Accepted(msgspec.Struct, frozen=True):
    """A run that was accepted."""

    run_id: str


class RunSummary(msgspec.Struct, frozen=True):
    """A run as lists show it."""

    run_id: str
    status: RunStatus
    goal: str
    submitted_at: datetime | None
    finished_at: datetime | None
    seconds: float
    cost_usd: float
    is_pruned: bool = False
    project: str = ""


class Upload(msgspec.Struct, frozen=True):
    """A file that was handed over."""

    id: str


class OpenQuestion(msgspec.Struct, frozen=True):
    """A question that waits for an answer; ``answers`` are the words that may be said."""

    approval_id: str
    run_id: str
    kind: str
    question: str
    answers: tuple[str, ...] = ()
    goal: str = ""
    tool: str | None = None
    arguments: Json | None = None


class ModelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the server knows of; ``is_at_hand`` if it has the key or the file that the model needs."""

    name: str
    provider: str
    title: str = ""
    is_default: bool = False
    is_at_hand: bool = False
    loaded_by: int = 0
    agents: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    abilities: ModelProfile | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a run began with and that is not what there is now."""

    what: str
    pinned: str
    present: str | None
    outcome: Literal["kept", "replaced", "gone"]


class RunChecked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run is as it was written, and can go on; see the API's document."""

    run_id: str
    status: RunStatus
    ok: bool
    changed_at: int | None = None
    breaks: str | None = None
    differences: tuple[Difference, ...] = ()


class SentEvent(msgspec.Struct, frozen=True):
    """An event as it is sent: its body in the newest version that the server knows."""

    id: str
    tenant: str
    run: str
    seq: int
    type: str
    v: int
    at: datetime
    body: msgspec.Raw
    mac: str
    task: str | None = None
    attempt: int | None = None

    def event(self) -> Event:
        """The event. Raises ``StoreCorrupt`` for a type that this version does not know."""
        return Event(
            id=self.id,
            tenant=self.tenant,
            run=self.run,
            seq=self.seq,
            type=self.type,
            v=self.v,
            at=self.at,
            body=decode_body(self.type, VERSIONS.get(self.type, self.v), bytes(self.body)),
            mac=self.mac,
            task=self.task,
            attempt=self.attempt,
        )
