"""Bus, records, blobs and presence of a simulated world, as one process sees them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from math import inf
from typing import NamedTuple

from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.records import MemoryRecords
from collegium.domain.errors import StoreUnavailable
from collegium.domain.message import Claim, Letter, Message
from collegium.domain.record import Condition, Record
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine


class SharedBus:
    """The messages of all processes, and those who wait for some, in the order in which they came."""

    def __init__(self, make: Callable[[], MemoryBus], loop: VirtualLoop) -> None:
        self._make = make
        self.messages = make()
        self.loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def flush(self) -> None:
        """All messages and groups are gone."""
        self.messages = self._make()

    async def deliver(self, message: Message, *, after_s: float = 0.0, delay_s: float = 0.0) -> int:
        """Publishes, at once or later; wakes everybody who waits for anything."""
        if after_s > 0:
            await asyncio.sleep(after_s)
        new = await self.messages.publish(message, delay_s=delay_s)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
        return new

    async def news(self, timeout_s: float) -> bool:
        """Whether something was published within ``timeout_s``."""
        one: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(one)
        try:
            async with asyncio.timeout(timeout_s):
                await one
        except TimeoutError:
            return False
        return True


class HostBus:
    """Implements ``Bus``: messages are lost, come twice, come late and in another order."""

    def __init__(self, shared: SharedBus, machine: Machine) -> None:
        self._shared = shared
        self._machine = machine

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """Publishes, unless a message is lost."""
        await self._reach("bus.publish:before")
        if self._machine.faults.strikes("flush"):
            self._shared.flush()
        new = sum([await self._publish(message, delay_s) for message in messages])
        await self._machine.reach("bus.publish:after")
        return new

    async def _publish(self, message: Message, delay_s: float) -> int:
        faults, loop, new = self._machine.faults, self._shared.loop, 1
        if faults.strikes("lose"):
            pass
        elif faults.strikes("reorder"):
            loop.spawn(None, self._shared.deliver(message, after_s=faults.delay_s(), delay_s=delay_s))
        else:
            new = await self._shared.deliver(message, delay_s=delay_s)
        if faults.strikes("duplicate"):
            loop.spawn(None, self._shared.deliver(message, after_s=3 * faults.delay_s(), delay_s=delay_s))
        return new

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """What waits; now and then a claim is not heard of, and what it took stays hidden for a while."""
        await self._reach("bus.claim:before")
        claims = await self._shared.messages.claim(topics, group, limit)
        if claims:
            await self._machine.reach("bus.claim:after")
        return claims

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the message, gives it back, or makes it a dead letter."""
        await self._reach("bus.settle:before")
        await self._shared.messages.settle(claim, requeue_after_s=requeue_after_s, dead=dead)
        await self._machine.reach("bus.settle:after")

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic."""
        await self._machine.awake()
        return await self._shared.messages.read(topic, after, limit, since=since)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic."""
        await self._machine.awake()
        return await self._shared.messages.letters(topic, after, limit)

    async def revive(self, letter: Letter) -> bool:
        """Gives a dead letter back."""
        await self._machine.awake()
        return await self._shared.messages.revive(letter)

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics."""
        await self._machine.awake()
        return await self._shared.messages.topics(after, limit)

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait."""
        await self._machine.awake()
        return await self._shared.messages.depth(topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """Until something is published, on whatever topic, or the time is over."""
        has_news = await self._shared.news(timeout_s)
        await self._machine.awake()
        return has_news

    async def _reach(self, name: str) -> None:
        await self._machine.reach(name)
        if self._machine.faults.strikes("away"):
            raise StoreUnavailable("the simulated bus does not answer")


class HostRecords:
    """Implements ``Records``."""

    def __init__(self, shared: MemoryRecords, machine: Machine) -> None:
        self._shared = shared
        self._machine = machine

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""
        await self._reach("records.get")
        record = await self._shared.get(kind, tenant, key)
        await self._machine.reach("records.get:after")
        return record

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores the record."""
        await self._reach("records.put")
        stored = await self._shared.put(record, expected=expected)
        await self._machine.reach("records.put:after")
        return stored

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete."""
        await self._machine.awake()
        return await self._shared.delete(kind, tenant, key, expected=expected)

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records that meet all conditions."""
        await self._machine.awake()
        return await self._shared.find(kind, tenant, conditions, after=after, limit=limit)

    async def _reach(self, name: str) -> None:
        await self._machine.reach(f"{name}:before")
        if self._machine.faults.strikes("store"):
            raise StoreUnavailable("the simulated catalogue does not answer")


class HostBlobs:
    """Implements ``Blobs``: what was put is durable with the next commit of this process, and lost when it dies."""

    def __init__(self, shared: MemoryBlobs, machine: Machine) -> None:
        self._shared = shared
        self._machine = machine
        self._pending: dict[tuple[str, str], bytes] = {}

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored."""
        self._machine.pass_by("blobs.put:before")
        sha256 = hashlib.sha256(data).hexdigest()
        self._pending[tenant, sha256] = data
        self._machine.pass_by("blobs.put:after")
        return sha256

    def commit(self) -> None:
        """Stores what waits; part of every commit of the journal."""
        for (tenant, _), data in self._pending.items():
            self._shared.put(tenant, data)
        self._pending = {}

    async def flush(self) -> None:
        """Stores what waits."""
        await self._machine.awake()
        self.commit()

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes."""
        await self._machine.awake()
        pending = self._pending.get((tenant, sha256))
        return pending if pending is not None else await self._shared.get(tenant, sha256)

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete."""
        await self._machine.awake()
        return await self._shared.delete(tenant, sha256)


class Beat(NamedTuple):
    """What others see of a worker; its machine stands for the lock that is freed when a process ends."""

    number: int
    machine: Machine


class HostPresence:
    """Implements ``Presence`` by beats: a worker is dead when its count has not moved for a lease of the observer's.

    Args:
        beats: The announced workers, shared by all processes.
        lease_s: In the observer's own time.
        shows_death: Whether the end of a process is seen at once, as on one computer, or by its beats alone.
    """

    def __init__(self, beats: dict[str, Beat], machine: Machine, *, lease_s: float, shows_death: bool) -> None:
        self._beats = beats
        self._machine = machine
        self._lease_s = lease_s
        self._shows_death = shows_death
        self._count = 0
        self._beaten_s = float("-inf")
        self._gaps = 0
        self._worker = ""
        self._ended: frozenset[str] = frozenset()
        self._seen: dict[str, tuple[int, float]] = {}

    async def announce(self, worker: str) -> None:
        """Begins to beat."""
        await self._machine.reach("presence.announce:before")
        self._worker = worker
        self._beat()
        await self._machine.reach("presence.announce:after")

    async def beat(self) -> None:
        """Beats for as long as the process runs."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            await self._machine.awake()
            self._beat()

    def tick(self) -> float:
        """Seconds until the loop has to say again that it runs."""
        return self._lease_s / 4

    def fresh_s(self) -> float:
        """For how many seconds more a call may start."""
        return self._beaten_s + self._lease_s / 2 - self._machine.loop.time()

    def gaps(self) -> int:
        """How often a beat has come later than half a lease after the one before."""
        return self._gaps

    async def withdraw(self, worker: str) -> None:
        """The worker has ended and left nothing; one that only seems dead stays known."""
        await self._machine.reach("presence.withdraw:before")
        if worker == self._worker or worker in self._ended:
            self._beats.pop(worker, None)
        self._stop(worker)
        await self._machine.reach("presence.withdraw:after")

    async def abandon(self, worker: str) -> None:
        """The worker is gone and has left attempts."""
        await self._machine.awake()
        self._stop(worker)

    async def dead(self) -> tuple[str, ...]:
        """Workers that ended, as far as that can be seen, and those whose count stands still."""
        await self._machine.reach("presence.dead:before")
        now = self._machine.loop.time()
        for worker, beat in self._beats.items():
            if self._seen.get(worker, (-1, 0.0))[0] != beat.number:
                self._seen[worker] = (beat.number, now)
        self._ended = frozenset(w for w, beat in self._beats.items() if not beat.machine.is_alive)
        found = tuple(sorted(w for w in self._beats if w != self._worker and self._is_dead(w, now)))
        await self._machine.reach("presence.dead:after")
        return found

    def silence(self, worker: str) -> float | None:
        """For how many leases the count stood still, as far as that was seen."""
        if worker == self._worker or worker not in self._beats:
            return 0.0 if worker == self._worker else None
        if self._shows_death and not self._beats[worker].machine.is_alive:
            return inf
        since_s = self._seen[worker][1] if worker in self._seen else self._machine.loop.time()
        return (self._machine.loop.time() - since_s) / self._lease_s

    def _is_dead(self, worker: str, now: float) -> bool:
        if self._shows_death and not self._beats[worker].machine.is_alive:
            return True
        return now - self._seen[worker][1] >= self._lease_s

    def _beat(self) -> None:
        if self._worker:
            self._count += 1
            self._beats[self._worker] = Beat(self._count, self._machine)
            self._gaps += 0 < -self.fresh_s() < inf
            self._beaten_s = self._machine.loop.time()

    def _stop(self, worker: str) -> None:
        if worker == self._worker:
            self._worker = ""
