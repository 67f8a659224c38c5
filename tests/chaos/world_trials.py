"""Trials in which the world around the processes fails: the network before the model, the disk under the store."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from collegium.domain.errors import StoreError, StoreFull
from collegium.domain.usage import Limits
from collegium.testing.fault_proxy import Fault, FaultProxy
from tests.chaos.checks import every_head
from tests.chaos.fleet import Fleet, fleet, until_so
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Place

FAULTS = (
    Fault(kind="refuse"),
    Fault(kind="reset"),
    Fault(kind="blackhole"),
    Fault(kind="half_close", after_bytes=150),
    Fault(kind="cut", after_bytes=150),
    Fault(kind="slow", bytes_per_s=4_000.0),
    Fault(kind="late", delay_s=0.5),
)
FAULTY_SHARE = 0.15
LIMIT_TOKENS = 20_000
DEADLINE_S = 20.0
DISK_MB = 32


async def network(place: Place, outcome: Outcome, kills: int) -> None:
    """A third of all connections to the model misbehave, and workers are killed; token limits hold."""
    rng = random.Random(outcome.seed)
    origin = Place(place.folder / "origin")
    async with fleet(origin, Outcome("origin", outcome.seed), workers=0) as first:
        port = int(first.place.model.rpartition(":")[2].partition("/")[0])

        def choose() -> Fault:
            return rng.choice(FAULTS) if rng.random() < FAULTY_SHARE else Fault()

        async with FaultProxy(port, choose) as proxy:
            beside = replace(place, model=f"openai-compatible:chaos@{proxy.url}/v1")
            async with fleet(beside, outcome, is_forgiving=True) as team:
                # A call that is swallowed on this machine is waited for as long as a local model may think.
                team.limits = Limits(tokens=LIMIT_TOKENS, deadline_s=DEADLINE_S)
                for _ in range(kills):
                    await team.ready()
                    await asyncio.sleep(team.rng.uniform(0.5, 1.5))
                    team.kill(team.rng.choice(list(team.workers)))
                    await team.hire()
                await team.end()
                await _check_limits(team, outcome)
        for kind, count in proxy.counts.items():
            outcome.note(f"connections {kind}", count)


async def _check_limits(team: Fleet, outcome: Outcome) -> None:
    for head in await every_head(team.app):
        used = (await team.app.state(head.run)).usage.tokens
        if used > LIMIT_TOKENS:
            outcome.wrong("limit", f"{head.run} used {used} tokens of {LIMIT_TOKENS}")


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs of a few MB at ``folder`` where one may be mounted; gives whether that was so."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


async def disk(place: Place, outcome: Outcome, rounds: int) -> None:
    """The store's disk fills up while runs go on, is full for a while, and has room again; ``rounds`` times."""
    with small_disk(place.data) as is_small:
        if not is_small:
            outcome.note("trials left out: no small disk can be mounted here")
            return
        filler = place.data / "filler"
        async with fleet(place, outcome, slow_s=(0.0, 0.1), is_forgiving=True) as team:
            for number in range(rounds):
                await team.top_up(10)
                known = {h.run: h.seq for h in await team.app.runs()}
                _fill(filler)
                is_refused = await _submit_until_refused(team, f"d{outcome.seed}-{number}", outcome)
                if not is_refused:
                    outcome.wrong("lost", "a full disk refused nothing")
                for run, seq in known.items():
                    read = [e async for e in team.app.events(run)]
                    if len(read) < seq:
                        outcome.wrong("lost", f"{run} had {seq} events and shows {len(read)} on a full disk")
                filler.unlink()
                await until_so(lambda: _is_accepted(team), "new work is accepted again", timeout_s=10.0)
                outcome.note("times the disk was full")
            for name in [n for n, child in team.workers.items() if not child.is_alive]:
                outcome.note("workers that ended on the full disk")
                del team.workers[name]
            while len(team.workers) < 2:
                await team.hire()
            await team.end()


def _fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


async def _submit_until_refused(team: Fleet, tag: str, outcome: Outcome) -> bool:
    for number in range(200):
        try:
            await team.submit(f"{tag}-{number}", "reading")
        except StoreFull:
            return True
        except StoreError as error:
            outcome.wrong("lost", f"a full disk was told as {error.code}: {error}")
            return True
    return False


async def _is_accepted(team: Fleet) -> bool:
    tag = f"after-{random.getrandbits(40):x}"
    try:
        await team.submit(tag, "reading")
    except StoreFull:
        return False
    return True
