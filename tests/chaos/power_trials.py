"""Trials with power cuts: the store under a load of its own, and the whole of collegium that goes on afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.domain.record import Record
from collegium.runtime.audit import verify_all
from collegium.testing.conformance.drafts import NOW, begin, noted
from collegium.wiring import open_collegium
from tests.chaos import goals
from tests.chaos.far_side import chaos_tools
from tests.chaos.fleet import fleet
from tests.chaos.outcome import Outcome
from tests.chaos.power import images
from tests.chaos.processes import Child, Place, start
from tests.chaos.recorded_disk import Op, RecordedDisk

RUNS = 4
APPENDS = 60


async def store(place: Place, outcome: Outcome, cuts: int) -> None:
    """Two stores on one file append, put records and blobs; the power is cut ``cuts`` times over their trace."""
    place.folder.mkdir(parents=True, exist_ok=True)
    ops = await _recorded(place, start(write_store, place.folder / "disk", outcome.seed))
    rng = random.Random(outcome.seed)
    for number, (moment, loss, files) in enumerate(images(ops, rng, cuts)):
        folder = place.folder / f"cut-{number}"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        acknowledged = [json.loads(o.data) for o in ops[:moment] if o.what == "mark"]
        try:
            await _check_store(folder / "store.db", acknowledged, outcome, f"cut {number} ({loss}) after {moment}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the store did not bear the cut
            outcome.wrong("lost", f"cut {number} ({loss}) after {moment}: {type(error).__name__}: {error}")
        outcome.cuts += 1


async def _recorded(place: Place, child: Child) -> list[Op]:
    """The trace of a process that records its disk."""
    assert await child.told() == "done"
    ops = await child.told()
    await child.terminate()
    return [Op(*op) for op in ops]


def write_store(folder: Path, seed: int, told: Connection) -> None:
    """Loads a store in a process with a recorded disk, and tells the trace."""
    disk = RecordedDisk(folder)
    disk.start()
    rng = random.Random(seed)

    async def load(opened: SqliteStore, run: str, name: str) -> None:
        for number in range(APPENDS):
            data = rng.randbytes(rng.choice((10, 3_000, 60_000)))
            blob = opened.blobs.put("acme", data)
            receipt = opened.journal.append(run, [noted("x" * rng.randint(1, 9_000)), noted(blob)])
            if rng.random() < 0.5:
                for event in await receipt.durable():
                    disk.mark(json.dumps({"run": run, "seq": event.seq, "id": event.id}))
                disk.mark(json.dumps({"blob": blob}))
            if rng.random() < 0.2:
                await opened.records.put(Record(kind="k", tenant="acme", key=name, value={"n": number}))
                disk.mark(json.dumps({"record": name, "n": number}))
            if rng.random() < 0.2:
                for made in await opened.archive.checkpoint(at=NOW):
                    disk.mark(json.dumps({"checkpoint": made.number}))

    async def main() -> None:
        one, two = open_store(folder / "store.db"), open_store(folder / "store.db")
        for run in range(RUNS):
            await begin(one.journal, f"run_{run}")
            disk.mark(json.dumps({"run": f"run_{run}", "seq": 1, "id": None}))
        await asyncio.gather(*(load((one, two)[n % 2], f"run_{n % RUNS}", f"lane-{n}") for n in range(2 * RUNS)))
        await one.aclose()
        await two.aclose()

    asyncio.run(main())
    told.send("done")
    told.send([tuple(op) for op in disk.ops])


async def _check_store(path: Path, acknowledged: Sequence[dict[str, Any]], outcome: Outcome, where: str) -> None:
    opened = open_store(path)
    try:
        events = {f"run_{n}": await opened.journal.read(f"run_{n}", limit=100_000) for n in range(RUNS)}
        for run, history in events.items():
            if [e.seq for e in history] != list(range(1, len(history) + 1)):
                outcome.wrong("chain", f"{where}: {run} has gaps")
            if history and (damaged := await opened.journal.verify(run)) is not None:
                outcome.wrong("chain", f"{where}: the chain of {run} breaks at {damaged}")
        signed = {one.number for one in await opened.archive.checkpoints("acme", limit=100_000)}
        ids = {(run, e.seq): e.id for run, history in events.items() for e in history}
        for said in acknowledged:
            match said:
                case {"run": named, "seq": seq, "id": id_}:
                    outcome.acknowledged += 1
                    found = ids.get((named, seq))
                    if found is None or id_ not in (None, found):
                        outcome.wrong("lost", f"{where}: event {seq} of {named} was acknowledged and is gone")
                case {"blob": name}:
                    await opened.blobs.get("acme", str(name))
                case {"record": key, "n": number}:
                    record = await opened.records.get("k", "acme", str(key))
                    if record is None or record.value["n"] < number:
                        outcome.wrong("lost", f"{where}: record {key} was acknowledged and is gone")
                case {"checkpoint": number}:
                    if number not in signed:
                        outcome.wrong("lost", f"{where}: checkpoint {number} was acknowledged and is gone")
        for bad in (await verify_all(opened.journal, opened.archive, "acme")).damaged:
            outcome.wrong("chain", f"{where}: not as it was written: {bad}")
        # It can still be written to.
        if events["run_0"]:
            await opened.journal.append("run_0", [noted("after")]).durable()
    finally:
        await opened.aclose()
    connection = sqlite3.connect(path)
    (said_ok,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    if said_ok != "ok":
        outcome.wrong("chain", f"{where}: {said_ok}")


async def whole(place: Place, outcome: Outcome, cuts: int) -> None:
    """Collegium at work on a recorded disk; after each cut it starts anew on what is left, and every run ends right."""
    origin = Outcome("origin", outcome.seed)
    async with fleet(Place(place.folder / "origin"), origin, workers=0, slow_s=(0.0, 0.05)) as first:
        recorded = Place(place.folder / "recorded", first.place.model)
        recorded.data.mkdir(parents=True)
        ops = await _recorded(recorded, start(work_recorded, recorded, outcome.seed))
        for number, (moment, loss, files) in enumerate(images(ops, random.Random(outcome.seed), cuts)):
            left = Place(place.folder / f"cut-{number}", first.place.model)
            part = Outcome(f"cut {number} ({loss}) after {moment}", outcome.seed)
            try:
                await _go_on(left, files, [json.loads(o.data) for o in ops[:moment] if o.what == "mark"], part)
            except Exception as error:  # noqa: BLE001 - whatever it is, collegium did not bear the cut
                part.wrong("lost", f"{type(error).__name__}: {error}")
            outcome.add(part)


async def _go_on(left: Place, files: dict[str, bytes], said: Sequence[dict[str, Any]], part: Outcome) -> None:
    """Starts collegium on what a cut has left, beside the far side as it was then."""
    left.data.mkdir(parents=True)
    for name, data in files.items():
        if name.startswith("collegium.db"):
            (left.data / name).write_bytes(data)
    for call in said:
        if call["what"] in ("fired", "void", "read"):
            _happened(left, call)
        elif call["what"] == "synced":
            # Names that were synced are there; the locks of the processes that were are not.
            folder = left.data / call["folder"]
            folder.mkdir(parents=True, exist_ok=True)
            for name in call["names"]:
                (folder / name).touch()
    accepted = {s["run"]: (s["tag"], s["kind"]) for s in said if s["what"] == "accepted"}
    part.acknowledged += len(accepted)
    part.cuts += 1
    async with fleet(left, part, workers=1, settle_s=30.0) as team:
        team.accepted |= accepted
        await team.end()


def _happened(left: Place, call: dict[str, str]) -> None:
    """Makes an effect at the far side as it had been before the cut."""
    if call["tool"] in ("checked", "again"):
        left.far.mark(call["key"], "fired" if call["what"] == "fired" else "void", call["label"])
    if call["what"] != "void":
        left.far.append(call["what"], call["key"] or None, call["label"], call["tool"])


def work_recorded(place: Place, seed: int, told: Connection) -> None:
    """Submits and works off some runs on a recorded disk; tells the trace, with every acceptance and effect in it."""
    disk = RecordedDisk(place.data)
    disk.start()
    _record_synced_folders(disk, place)
    tools = chaos_tools(place.far, on_effect=lambda call: disk.mark(json.dumps(call)))

    async def main() -> None:
        async with open_collegium(place.settings, scope="all", model=place.model, tools=tools) as app:

            async def one(number: int) -> None:
                kind = list(goals.KINDS)[number % len(goals.KINDS)]
                tag = f"p{seed}-{number}"
                await asyncio.sleep(number * 0.03)
                run = await app.submit(goals.goal(tag, kind), plan=goals.plan(tag, kind), model=place.model)
                disk.mark(json.dumps({"what": "accepted", "run": run.id, "tag": tag, "kind": kind}))
                await run.result()

            await asyncio.gather(*(one(n) for n in range(3 * len(goals.KINDS))))

    asyncio.run(main())
    told.send("done")
    told.send([tuple(op) for op in disk.ops])


def _record_synced_folders(disk: RecordedDisk, place: Place) -> None:
    """Notes what stands in the folder of the workers whenever this process syncs it, which SQLite never does."""
    usual, folder = os.fsync, place.data / "workers"

    def fsync(file: Any) -> None:
        usual(file)
        if Path(f"/proc/self/fd/{file}").resolve() == folder.resolve():
            names = [p.name for p in folder.glob("wrk_*.lock")]
            disk.mark(json.dumps({"what": "synced", "folder": folder.name, "names": names}))

    os.fsync = fsync  # type: ignore[assignment]  # watched in this child process, and nowhere else
