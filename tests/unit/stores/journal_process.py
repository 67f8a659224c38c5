"""A process that writes to a store until it is done or killed; started by ``test_processes.py``.

``journal_process.py STORE NAME COUNT [KEY]``: appends to runs of its own and to the shared ``run_shared``, and prints
``run seq id`` of every event whose ``durable()`` has returned.
"""

import asyncio
import sys
from pathlib import Path

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.store import open_store
from collegium.domain.errors import Conflict
from collegium.domain.event import Draft
from collegium.domain.head import Fence
from collegium.testing.conformance import drafts as d


def named(draft: Draft, id_: str) -> Draft:
    """The draft under an id that no other process gives."""
    return Draft(id=id_, tenant=draft.tenant, at=draft.at, body=draft.body, task=draft.task, attempt=draft.attempt)


async def work(path: Path, name: str, count: int, key: FileKey | None) -> None:
    """Writes and says what is safe."""
    store = open_store(path, busy_timeout_s=30, key=key)
    journal = store.journal

    def report(events) -> None:
        for event in events:
            sys.stdout.write(f"{event.run} {event.seq} {event.id}\n")
        sys.stdout.flush()

    async def own_run(run: str) -> None:
        report(await journal.append(run, [named(d.submitted(), f"{run}.0")], expected=0, head=d.running()).durable())
        report(await d.decide(journal, run, [named(d.ready("t", 1), f"{run}.1")], expected=1))
        for n in range(2, count):
            text = "x" * (n % 7 * 1_000)
            receipt = journal.append(run, [named(d.noted(text), f"{run}.{n}")], fence=Fence(task="t", attempt=1))
            if n % 3 == 0:
                report(await receipt.durable())
        report(await journal.append(run, [named(d.noted("end"), f"{run}.end")]).durable())

    async def shared_run() -> None:
        for n in range(count):
            while True:
                head = await journal.head("run_shared")
                assert head is not None
                try:
                    draft = named(d.said(name), f"{name}.shared.{n}")
                    report(await d.decide(journal, "run_shared", [draft], expected=head.deciding_seq))
                    break
                except Conflict:
                    continue
            report(await journal.append("run_shared", [named(d.noted(n), f"{name}.note.{n}")]).durable())

    await asyncio.gather(own_run(f"run_{name}1"), own_run(f"run_{name}2"), shared_run())
    await store.aclose()


if __name__ == "__main__":
    file_key = FileKey(bytes.fromhex(sys.argv[4])) if sys.argv[4:] else None
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), file_key))
