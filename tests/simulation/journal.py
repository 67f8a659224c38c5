"""The journal of a simulated world: one store, and for each process a writer in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from collegium.adapters.admission import Append, Doubts, admit, prepare
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.rows import Entropy, EventRow, sealed_event, to_event
from collegium.domain.errors import CollegiumError, StoreUnavailable
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from tests.simulation.machine import Machine

Stored = Callable[[Append, Sequence[EventRow], str], None]


class SharedJournal(MemoryJournal):
    """What all processes share: whatever is in here survives them.

    Args:
        on_stored: Told of every append right after it was stored.
    """

    def __init__(self, *, entropy: Entropy, on_stored: Stored) -> None:
        super().__init__(entropy=entropy)
        self._on_stored = on_stored
        self._read: dict[str, list[Event]] = {}
        self.writing = ""
        """Name of the process whose writer is at work."""

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Events of ``run``; each is read from its bytes once."""
        start = max(0, after)
        events = self._read.setdefault(run, [])
        events += map(to_event, self._events.get(run, ())[len(events) :])
        return tuple(events[start : start + max(0, limit)])

    def commit(self, request: Append, doubts: Doubts, ticket: int) -> list[EventRow]:
        """Stores ``request`` or raises the refusal, as a store does in a transaction."""
        doubts.check(request, ticket)
        admitted = admit(request, self._heads.get(request.run), self._fences.get(request.run, {}).get)
        rows = self._store(request, admitted)
        for task, row in admitted.fences.items():
            if not row.is_open:
                doubts.closed(request.run, task, row.attempt)
        self._on_stored(request, rows, self.writing)
        return rows


class SimulatedReceipt:
    """Implements ``Receipt``."""

    def __init__(self, journal: HostJournal, request: Append, ticket: int) -> None:
        self.request = request
        self.ticket = ticket
        self.rows: Sequence[EventRow] = ()
        self.error: CollegiumError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._journal = journal

    async def durable(self) -> tuple[Event, ...]:
        """The barrier."""
        return await self._journal.settled(self)


class HostJournal:
    """Implements ``Journal`` for one process: appends wait in its memory, and die with it in part.

    Args:
        before_commit: What has to be durable with the next commit of this process.
    """

    def __init__(self, shared: SharedJournal, machine: Machine, *, before_commit: Callable[[], None]) -> None:
        self.shared = shared
        self._machine = machine
        self._before_commit = before_commit
        self._doubts = Doubts()
        self._queue: list[SimulatedReceipt] = []
        self._news = asyncio.Event()

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> SimulatedReceipt:
        """Orders ``drafts`` behind all that this process has ordered before."""
        request = prepare(run, drafts, expected=expected, fence=fence, head=head)
        for type_ in dict.fromkeys(e.type for e in request.entries):
            self._machine.pass_by(f"append:{type_}:before")
        receipt = SimulatedReceipt(self, request, self._doubts.ticket())
        self._queue.append(receipt)
        self._news.set()
        return receipt

    async def write(self) -> None:
        """Stores what is ordered, batch by batch; the process's one writer."""
        machine = self._machine
        while True:
            await self._news.wait()
            await asyncio.sleep(machine.rng.random() * 0.01)
            if machine.faults.strikes("delay"):
                await asyncio.sleep(machine.faults.delay_s())
            await machine.awake()
            count = machine.rng.randint(1, len(self._queue))
            batch, self._queue = self._queue[:count], self._queue[count:]
            if not self._queue:
                self._news.clear()
            if machine.faults.strikes("store"):
                self._fail(batch, "could not write")
            else:
                self._commit(batch)
                self._stored(batch)
                if machine.faults.strikes("doubt"):
                    self._fail(batch, "went away during a commit: what was to be stored may or may not be there")
            if machine.faults.strikes("late"):
                await asyncio.sleep(machine.faults.delay_s())
                await machine.awake()
            for one in batch:
                if not one.done.done():
                    one.done.set_result(None)

    def die(self) -> None:
        """What was ordered and not yet stored: some of it may have reached the disk, in order, the rest is lost."""
        queue, self._queue = self._queue, []
        self._commit(queue[: self._machine.rng.randint(0, len(queue))])

    async def settled(self, receipt: SimulatedReceipt) -> tuple[Event, ...]:
        """Waits for the outcome of one append."""
        await asyncio.shield(receipt.done)
        await self._machine.awake()
        if receipt.error is not None:
            self._doubts.heard(receipt.request, receipt)
            raise type(receipt.error)(receipt.error.message, **receipt.error.fields)
        return tuple(map(sealed_event, receipt.request.entries, receipt.rows))

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run``."""
        await self._look("journal.read")
        events = await self.shared.read(run, after, limit)
        await self._machine.reach("journal.read:after")
        return events

    async def head(self, run: str) -> Head | None:
        """The head row of ``run``."""
        await self._look("journal.head")
        head = await self.shared.head(run)
        await self._machine.reach("journal.head:after")
        return head

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index."""
        await self._look("journal.heads")
        heads = await self.shared.heads(query)
        await self._machine.reach("journal.heads:after")
        return heads

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs."""
        await self._machine.awake()
        return await self.shared.scan(after, limit)

    async def _look(self, name: str) -> None:
        await self._machine.reach(f"{name}:before")
        if self._machine.faults.strikes("store"):
            raise StoreUnavailable("the simulated store does not answer")

    def _commit(self, batch: Sequence[SimulatedReceipt]) -> None:
        self._before_commit()
        self.shared.writing = self._machine.name
        for one in batch:
            try:
                one.rows = self.shared.commit(one.request, self._doubts, one.ticket)
            except CollegiumError as error:
                one.error = error
                self._doubts.failed(one.request, error, one)

    def _fail(self, batch: Sequence[SimulatedReceipt], why: str) -> None:
        for one in batch:
            one.error = StoreUnavailable(f"the simulated store {why}")
            self._doubts.failed(one.request, one.error, one)

    def _stored(self, batch: Sequence[SimulatedReceipt]) -> None:
        for one in batch:
            if one.error is None:
                for type_ in dict.fromkeys(e.type for e in one.request.entries):
                    self._machine.pass_by(f"append:{type_}:after")
