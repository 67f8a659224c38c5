"""A world: hosts, their users, what happens to them, and what came of it. The same seed gives the same world."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.checkpoint import Checkpoint, is_genuine
from collegium.domain.errors import StoreUnavailable
from collegium.domain.usage import Allotment
from collegium.runtime.accounts import AccountCaps, PeriodCaps
from collegium.runtime.audit import verify_all
from tests.simulation.archive import HostArchive, SharedArchive
from tests.simulation.failpoints import Failpoints
from tests.simulation.history import Violation, from_scratch
from tests.simulation.host import Host, Shared
from tests.simulation.invariants import Watch
from tests.simulation.journal import HostJournal, SharedJournal
from tests.simulation.loop import SimulatedClock, Stuck, VirtualLoop
from tests.simulation.outside import Outside
from tests.simulation.people import People
from tests.simulation.scenario import Scenario
from tests.simulation.stores import HostPresence, SharedBus

LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Faults in the code itself, for tests that prove the simulation finds them."""

    shared_journal: type[SharedJournal] = SharedJournal
    journal: type[HostJournal] = HostJournal
    archive: type[HostArchive] = HostArchive
    presence: type[HostPresence] = HostPresence
    outside: type[Outside] = Outside


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a world."""

    violation: Violation | None
    events: int
    types: Counter[str]
    faults: Counter[str]
    statuses: Counter[str]
    failpoints: Failpoints
    seconds: float
    digest: str
    trace: list[str] = field(repr=False)


class World:
    """Runs a scenario."""

    def __init__(self, scenario: Scenario, seed: int | str, planted: Planted | None = None) -> None:
        planted = planted or Planted()
        self._scenario = scenario
        self._rng = Random(f"{seed}/world")
        self._loop = VirtualLoop(Random(f"{seed}/order"))
        self._loop.set_exception_handler(self._unhandled)
        self._outside = planted.outside()
        self._watch = Watch(
            self._outside,
            self._loop,
            cap_tokens=scenario.tenant_tokens,
            slack_s=5 * scenario.faults.longest_delay_s + 2,
        )
        entropy = Random(f"{seed}/entropy")
        clock, rules = SimulatedClock(self._loop), BusRules(hide_s=scenario.hide_s)
        journal = planted.shared_journal(entropy=entropy.randbytes, on_stored=self._watch.stored)
        records, blobs = MemoryRecords(), MemoryBlobs()
        self._signed: dict[str, Checkpoint] = {}
        self._shared = Shared(
            loop=self._loop,
            journal=journal,
            bus=SharedBus(lambda: MemoryBus(clock, rules), self._loop),
            records=records,
            blobs=blobs,
            archive=SharedArchive(journal, records, blobs, on_signed=self._look_at),
            workspaces=MemoryWorkspaces(),
            beats={},
            outside=self._outside,
            faults=scenario.faults,
            failpoints=Failpoints(scenario.armed),
            entropy=entropy,
            lease_s=scenario.lease_s,
            shows_death=scenario.shows_death,
            approvals=scenario.approvals,
            caps=AccountCaps(tenant=PeriodCaps(day=Allotment(tokens=scenario.tenant_tokens))),
            journal_type=planted.journal,
            archive_type=planted.archive,
            presence_type=planted.presence,
        )
        self._hosts: list[Host] = []
        self._people = People(
            scenario, hosts=self._hosts, loop=self._loop, rng=self._rng, outside=self._outside, watch=self._watch
        )
        self._is_over = False
        self._booted = 0

    def run(self) -> Result:
        """Lets the world take its course; ends at the first violation."""
        loop = self._loop
        # Whatever the collector ends, and when, would depend on what this process did before.
        gc.disable()
        try:
            loop.run_until_complete(loop.start(None, self._course()))
            gc.collect(0)  # tasks that nobody looked at tell of their errors now
            self._check_end()
        except Violation as violation:
            self._watch.broken(violation)
        except Stuck as error:
            self._watch.broken(Violation("something always goes on", str(error)))
        finally:
            self._end()
            gc.enable()
        return Result(
            violation=self._watch.violation,
            events=self._watch.events,
            types=self._watch.types,
            faults=self._shared.faults.counts,
            statuses=Counter(h.state.status for h in self._watch.histories.values() if h.state is not None),
            failpoints=self._shared.failpoints,
            seconds=loop.time(),
            digest=self._watch.digest,
            trace=self._watch.trace,
        )

    async def _course(self) -> None:
        scenario = self._scenario
        for _ in range(scenario.hosts):
            self._boot()
        self._people.begin()
        await self._until(scenario.chaos_s)
        self._calm()
        await self._until(scenario.chaos_s + scenario.grace_s)
        self._watch.raise_broken()
        if pending := self._pending():
            raise Violation("every accepted run ends", "; ".join(pending))

    async def _until(self, at_s: float) -> None:
        """Returns at ``at_s``, or as soon as all is done or something is broken."""
        while self._loop.time() < at_s and self._watch.violation is None and self._pending():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(LOOK_S)

    def _calm(self) -> None:
        self._shared.faults.is_calm = True
        for host in self._hosts:
            host.machine.resume()

    def _pending(self) -> list[str]:
        """Runs that have not ended, and goals that were not accepted yet."""
        missing = [s.mark for s in self._scenario.submissions if s.mark not in self._people.accepted]
        return [f"{m} was not accepted" for m in missing] + [
            f"{h.run} is {h.state.status if h.state else 'unknown'}"
            for h in self._watch.histories.values()
            if not h.is_at_rest(is_answering=self._scenario.is_answering)
        ]

    def _check_end(self) -> None:
        for mark, run in self._people.accepted.items():
            if run not in self._watch.histories:
                raise Violation("no accepted run is lost", f"{mark} ({run})")
        for history in self._watch.histories.values():
            from_scratch(history)
            self._watch.check_ledger(history)
        for run in (*self._watch.histories, *self._watch.accounts):
            wrong = _done(self._shared.journal.verify(run))
            if wrong is not None:
                raise Violation("chain verifies", f"{run} at seq {wrong}")
        for tenant in self._signed:
            for bad in _done(verify_all(self._shared.journal, self._shared.archive, tenant)).damaged:
                raise Violation("checkpoints verify", f"{bad}")

    def _look_at(self, made: Sequence[Checkpoint], writer: str) -> None:
        """Checks checkpoints that have just been written: each follows the one before and says what is stored."""
        for one in made:
            before = self._signed.get(one.tenant)
            self._signed[one.tenant] = one
            listed = one.entries or ()
            self._watch.say(f"{self._say_when()} {writer} signs {one.number} of {one.tenant}, {len(listed)} runs")
            place = (1, "") if before is None else (before.number + 1, before.signature)
            rows = [(entry, self._shared.journal.rows(entry.run, entry.seq - 1, 1)) for entry in listed]
            wrong = [entry.run for entry, found in rows if [row.mac.hex() for row in found] != [entry.mac]]
            if (one.number, one.previous) != place or wrong or not is_genuine(PUBLIC_KEY, one):
                self._watch.broken(
                    Violation("checkpoints verify", f"{one.number} of {one.tenant} by {writer}: {wrong}")
                )

    def _boot(self) -> None:
        if self._is_over:
            return
        self._booted += 1
        host = Host(f"h{self._booted}", self._shared, self._died)
        self._hosts.append(host)
        self._watch.say(f"{self._say_when()} {host.machine.name} starts")
        host.start()

    def _died(self, host: Host) -> None:
        self._hosts.remove(host)
        self._watch.say(f"{self._say_when()} {host.machine.name} dies")
        if not self._is_over:
            self._loop.spawn(None, self._reboot(self._rng.uniform(0.1, 3.0)))

    async def _reboot(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._boot()

    def _say_when(self) -> str:
        return f"{self._loop.time():10.4f}"

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody looked at: a fault of the code, unless its process is dead."""
        error = context.get("exception")
        if not self._is_over and error is not None and not isinstance(error, asyncio.CancelledError | StoreUnavailable):
            self._watch.broken(Violation("no error goes unseen", f"{context['message']}: {error!r}"))

    def _end(self) -> None:
        """Ends whatever still runs, so that nothing of this world is left."""
        self._is_over = self._people.is_over = True
        for host in list(self._hosts):
            host.machine.kill()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()


def _done(work: Any) -> Any:
    """The value of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("it waits")
