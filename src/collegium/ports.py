"""Every plug point of collegium: the narrow waist between the rooms and the world.

Each port is born with two implementations and a behavioural conformance suite in ``collegium.testing.conformance``.
No port speaks of SQL, transactions or connections. All I/O is async; implementations are used from one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from collegium.domain.chain import Link
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.document import Chunk, Extraction, GivenFile, Passage, SkippedFile
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.domain.message import Claim, Message
from collegium.domain.record import Condition, Record
from collegium.domain.tombstone import Tombstone


class Clock(Protocol):
    """Time, injected: real, or ``collegium.testing.FakeClock``."""

    def now(self) -> datetime:
        """The time of day, UTC-aware."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``; zero or less only yields."""


class Receipt(Protocol):
    """What ``Journal.append`` gives at once: the events are ordered in this process's writer, not yet stored."""

    async def durable(self) -> tuple[Event, ...]:
        """The barrier: returns the events as stored (with ``seq`` and ``mac``) once they would survive a power cut.

        Raises ``Conflict`` (``expected`` was not the run's last deciding seq), ``Fenced`` (the attempt is closed or no
        longer the newest, or an earlier append of it failed), ``StoreError`` (nothing of this append is stored).
        """


class Journal(Protocol):
    """The runs' journals: per run one ordered, gap-free, chained sequence of events."""

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        """Orders ``drafts`` as the next events of ``run``: all of them are stored, or none.

        Args:
            drafts: What happened, in order.
            run: The run; it comes into being with ``expected=0``.
            expected: Seq of the last deciding event that the caller has seen; None for recording events.
            fence: The attempt on whose behalf this is written; several when a decision speaks for several.
            head: New status and wake-up; given with every append that has a deciding event.

        Raises ValueError for no drafts, for drafts of another tenant and for a deciding append without ``head``.
        Events without a waiting ``durable()`` may be delayed by a few milliseconds, in order, never reordered.
        """

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run`` with ``seq > after``, in order; empty for an unknown run."""

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None."""

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index, oldest wake-up (with ``due_before``) or newest run first."""

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs in an order that later commits cannot precede, and the cursor; never for finding work."""


class Archive(Protocol):
    """Journals as they are kept: stored bytes, chains, what is left of pruned runs, and what is signed of all of it."""

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order, with the bytes that were hashed; ``body`` is None where it was removed."""

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None when all that is left is."""

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed: both or neither. Raises ``Conflict``."""

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs, by run, with ``run > after``."""

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""

    async def collect(self, *, before: datetime) -> int:
        """Deletes blobs put last ``before`` that no event and no record names; returns how many."""

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs where the runs of each tenant stand that changed since the last time; what was written, in one commit.

        Nothing is, and almost nothing is read, where nothing has changed, where the last time is less than ``pause_s``
        before ``at``, and where another process writes the same meanwhile. Raises ``StoreCorrupt`` for a chain of
        checkpoints whose end is not as it was signed.
        """

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        """The checkpoints of ``tenant`` by number, with ``number > after``. Raises ``StoreCorrupt``."""

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        """What all checkpoints of ``tenant`` say together, and whether they go on from one that was kept elsewhere."""


class Bus(Protocol):
    """Messages by topic, at least once: work that is claimed, streams that are read. What decides is the journal."""

    async def publish(self, message: Message) -> bool:
        """Whether it was new: an unsettled message with the same id on the same topic is not published twice."""

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, urgent ones first, then oldest, hidden from the group for the hide time."""

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None) -> None:
        """Removes the claimed message, or gives it back to be claimed after a delay. A stale claim changes nothing."""

    async def read(self, topic: str, after: int = 0, limit: int = 1_000) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed."""

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """Returns True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``."""


class Records(Protocol):
    """Small JSON documents that are no part of a run, with compare-and-set."""

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores ``record.value`` over version ``expected`` (0: nothing; None: any). Raises ``Conflict``."""

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete. Raises ``Conflict``."""

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records that meet all conditions, by key, with ``key > after``."""


class Blobs(Protocol):
    """Bytes by their SHA-256, per tenant."""

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored, durable with the next barrier, as young as new; returns their hex SHA-256."""

    async def flush(self) -> None:
        """Returns once everything put so far is durable. Raises ``StoreError``."""

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, verified. Raises ``NotFound``, or ``StoreCorrupt`` when they do not match their name."""

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete."""


class Index(Protocol):
    """Chunks that are searched by words, by meaning, or both. Namespaces never see each other."""

    async def upsert(self, namespace: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]] | None) -> None:
        """Adds or replaces chunks by id, all or none; ``vectors`` (n, dim) are L2-normalised, None for words only.

        The chunks of one document (``chunk.sha256``) come in one call: from then on ``has`` answers for it.
        """

    async def search(
        self,
        namespace: str,
        *,
        text: str | None = None,
        vector: Sequence[float] | None = None,
        documents: Sequence[str] | None = None,
        limit: int = 10,
    ) -> tuple[Passage, ...]:
        """The best chunks by ``text`` (words), by ``vector`` (meaning), or by both fused; best first.

        ``documents`` (SHA-256 of the files) restricts the search before ranking.
        """

    async def has(self, namespace: str, documents: Sequence[str]) -> frozenset[str]:
        """Which of ``documents`` (SHA-256) are wholly indexed in ``namespace``."""

    async def delete(self, namespace: str, documents: Sequence[str] | None = None) -> None:
        """Removes the chunks of ``documents``, or the whole namespace."""


class Retriever(Protocol):
    """What agents and oversight search through: the run's files and collections, already scoped."""

    async def search(self, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        """The best passages for ``query``, best first."""

    async def text(self, document: str) -> str:
        """The extracted text of a document by its path. Raises ``NotFound``."""

    @property
    def documents(self) -> tuple[str, ...]:
        """Paths of all documents in scope."""


class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def space(self) -> str:
        """Name of the vector space, with model and version: vectors of different spaces are never compared."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """``(n, dim)`` float32, L2-normalised."""


class Extractor(Protocol):
    """Files to text with offsets."""

    def variant(self, path: str) -> str:
        """How ``path`` would be read, with versions: the same bytes and variant always give the same extraction."""

    async def extract(self, path: str, data: bytes) -> Extraction:
        """Text and structure of a file. Raises ``UnreadableInput`` saying why (binary, broken, encrypted ...)."""


class Scorer(Protocol):
    """How well a premise supports a claim."""

    @property
    def name(self) -> str:
        """Name and version, stored with every verdict."""

    async def score(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """For each ``(premise, claim)`` a number from 0 (unsupported) to 1 (supported)."""


class Model(Protocol):
    """A language model behind any API, with the costs of its price table in the replies.

    Both calls raise the ``ModelError`` tree and nothing else; cancelling the awaiting task ends the call at the
    provider as far as its protocol allows.
    """

    @property
    def profile(self) -> ModelProfile:
        """What the model can do. Known without a network call."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply."""

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text as they come; the last item is the whole ``ModelReply``, exactly as ``complete`` gives it."""

    async def aclose(self) -> None:
        """Releases connections; twice is harmless."""


class Models(Protocol):
    """Finds a model by its name (``openai:NAME``, ``local:PATH`` ...); connections are shared between callers."""

    async def open(self, name: str) -> Model:
        """The model, ready to be called. Raises ``UsageError`` (unknown, missing key or extra) or ``ModelError``."""

    async def aclose(self) -> None:
        """Closes every model that was opened."""


class Cache(Protocol):
    """Bytes with a time to live; losing them loses nothing but time."""

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent or expired."""

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes for at most ``ttl_s`` seconds."""


class Workspace(Protocol):
    """A run's own work folder: paths are relative with /; leaving it, by ``..`` or a link, is a ``ToolError``."""

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""

    async def read(self, path: str) -> bytes:
        """A file's bytes. Raises ``NotFound``."""

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file, all of it or nothing; missing folders are made. Twice is the same."""


class Workspaces(Protocol):
    """Gives each run its work folder."""

    async def open(self, tenant: str, run: str) -> Workspace:
        """The folder of ``run``, made if it is not there."""

    async def remove(self, tenant: str, run: str) -> bool:
        """Whether there was a folder of ``run`` to remove, with everything in it."""


class Presence(Protocol):
    """Which worker processes live. Only ever decides when to try again, never whether that is correct."""

    async def announce(self, worker: str) -> None:
        """This process is ``worker`` from now on, until it ends, and beats as long as it is told to ``tick``."""

    async def withdraw(self, worker: str) -> None:
        """The worker has ended and left nothing. One that only seems dead stays known, should it go on."""

    async def abandon(self, worker: str) -> None:
        """The worker has ended and left attempts open: from now on it is found dead."""

    async def dead(self) -> tuple[str, ...]:
        """Workers that ended without a word, or whose beats stand still for a lease of this process's own time."""

    def silence(self, worker: str) -> float | None:
        """For how many leases ``worker`` had been silent when ``dead`` was asked last; ``inf``: it has ended.

        Below 1 it lives. None for one that nothing is known of: it has ended and left nothing.
        """

    def tick(self) -> float:
        """Says that the event loop runs; returns after how many seconds to say so again."""

    def fresh_s(self) -> float:
        """For how many seconds more a call may start: half a lease after the last beat, suspended time included."""

    def gaps(self) -> int:
        """How often this process has not been fresh so far: others may have taken it for dead each time."""


class Inputs(Protocol):
    """Reads the files and folders a user names."""

    def collect(self, paths: Sequence[str]) -> AsyncIterator[GivenFile | SkippedFile]:
        """Every file under ``paths``, in a stable order, one at a time; what cannot be read says why.

        Raises ``UnreadableInput`` for a path that is not there, and for more files than the cap.
        """
