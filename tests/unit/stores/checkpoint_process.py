"""A process that writes to runs and signs them until it is done or killed; started by ``test_checkpoint_processes.py``.

``checkpoint_process.py STORE NAME COUNT``: prints the number of every checkpoint that it has written.
"""

import asyncio
import sys
from pathlib import Path

from collegium.adapters.sqlite.store import open_store
from collegium.domain.event import Draft
from collegium.testing.conformance import drafts as d

KEY = b"k" * 32


def named(draft: Draft, id_: str) -> Draft:
    """The draft under an id that no other process gives."""
    return Draft(id=id_, tenant=draft.tenant, at=draft.at, body=draft.body, task=draft.task, attempt=draft.attempt)


async def work(path: Path, name: str, count: int) -> None:
    """Writes, signs, and says what was signed."""
    store = open_store(path, busy_timeout_s=30, chain_key=KEY)
    runs = [f"run_{name}{n}" for n in range(3)]
    for run in runs:
        first = named(d.submitted(), f"{run}.0")
        await store.journal.append(run, [first], expected=0, head=d.running()).durable()

    async def write() -> None:
        for n in range(count):
            run = runs[n % 3]
            await store.journal.append(run, [named(d.noted("x" * (n % 5 * 2_000)), f"{run}.{n + 1}")]).durable()

    async def sign() -> None:
        while not writing.done():
            for made in await store.archive.checkpoint(at=d.NOW):
                sys.stdout.write(f"{made.number}\n")
                sys.stdout.flush()
            await asyncio.sleep(0)

    writing = asyncio.ensure_future(write())
    await asyncio.gather(writing, sign())
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
