"""A process that reads and writes a store all the time; told to end, it says what it did and what failed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from collegium.adapters.clock import SystemClock
from collegium.config import load_settings
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import CollegiumError
from collegium.domain.record import Record
from collegium.testing.conformance.drafts import begin, noted
from collegium.wiring.stores import open_stores

TEXT = "what nobody else may read " * 8


async def main(name: str) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    settings = load_settings(None, os.environ, {})
    reads = writes = 0
    errors: list[str] = []
    async with open_stores(settings, "none", clock=SystemClock(), chain_key=PUBLIC_KEY, entropy=os.urandom) as stores:
        runs: list[str] = []
        while not told.is_set():
            n = writes
            run = f"run_{name}_{n:06}"
            try:
                await begin(stores.journal, run, notes=1)
                await stores.journal.append(run, [noted(f"{TEXT}{n}"), noted(TEXT * 40 + str(n))]).durable()
                await stores.records.put(Record(kind="note", tenant="acme", key=run, value={"text": TEXT, "n": n}))
                writes += 1
                runs.append(run)
                for old in ("run_first_000000", runs[n // 2]):
                    events = await stores.journal.read(old)
                    record = await stores.records.get("note", "acme", old)
                    assert len(events) == 4, f"{len(events)} events of {old}"
                    assert record is not None, old
                    assert record.value["text"] == TEXT, old
                    reads += 1
            except (CollegiumError, AssertionError) as error:
                errors.append(f"{type(error).__name__}: {error}")
            if writes == 1 or errors:
                print("working", flush=True)
        wrong = [run for run in runs if await stores.archive.verify(run) is not None]  # type: ignore[union-attr]
    print(json.dumps({"reads": reads, "writes": writes, "errors": errors, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
