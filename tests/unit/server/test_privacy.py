"""What is held of a principal: all of it is exported, all of it is erased, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.app import Collegium, Stores
from collegium.domain.deed import log_tenant
from collegium.domain.document import GivenFile
from collegium.domain.errors import Conflict
from collegium.domain.principal import ROLES, Principal, local
from collegium.domain.record import Record
from collegium.knowledge.library import Library
from collegium.ports import Model
from collegium.runtime.audit import verify_all
from collegium.runtime.privacy import Privacy
from collegium.runtime.retention import BLOB_AGE_S, Retention
from collegium.server.access.deeds import log_of
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_audit import Door
from tests.unit.stores.moved import PLAN, Hanging, working

ADA, BOB = "user:ada", "user:bob"
HERS, HIS, SHARED = b"Ada lives in Turing Street 12.", b"Bob likes chess.", b"The handbook of the house."


class House:
    """A store on disk, a team, and what looks after privacy in it."""

    def __init__(self, app: Collegium, path: Path, folder: Path) -> None:
        self.app = app
        self.path = path
        self.index = MemoryIndex()
        self.library = Library(
            self.index, None, extractor=FileExtractor(), blobs=app.stores.blobs, records=app.stores.records
        )
        self.workspaces = FolderWorkspaces(folder)
        self.clock = FakeClock(datetime.now(UTC) + timedelta(seconds=2 * BLOB_AGE_S))
        retention = Retention(app.stores, self.workspaces, clock=self.clock)
        self.privacy = Privacy(app.stores, retention, library=self.library, now=app.now)

    async def run(self, who: str, text: str, *files: bytes) -> str:
        given = [GivenFile(path=f"{n}.md", data=data) for n, data in enumerate(files)]
        run = await self.app.submit(text, plan=PLAN, files=given, principal=who)
        await asyncio.wait_for(run.result(), 20)
        state = await run.state()
        await self.library.open("default", state.goal.files)
        await (await self.workspaces.open("default", run.id)).write("note.txt", text.encode())
        return run.id

    def bytes_on_disk(self) -> bytes:
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.close()
        return self.path.read_bytes()


@asynccontextmanager
async def house(tmp_path: Path, model: Model | None = None) -> AsyncIterator[House]:
    store = open_store(tmp_path / "store.db", chain_key=b"k" * 32)
    stores = Stores(
        journal=store.journal, bus=MemoryBus(SystemClock()), records=store.records, blobs=store.blobs,
        presence=MemoryPresence(), archive=store.archive,
    )  # fmt: skip
    async with team(model or working(), stores=stores) as app:
        yield House(app, tmp_path / "store.db", tmp_path / "runs")
    await store.aclose()


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def test_an_export_has_all_of_the_subject_and_nothing_of_others(home: House) -> None:
    mine = await home.run(ADA, "Where does Ada live?", HERS, SHARED)
    his = await home.run(BOB, "What does Bob like?", HIS, SHARED)
    await home.app.stores.records.put(
        Record(kind="api_key", tenant="~keys", key="k1",
               value={"tenant": "default", "created_by": ADA, "digest": "SECRETDIGEST", "name": "laptop"})
    )  # fmt: skip
    data = b"".join([line async for line in home.privacy.export("default", ADA)])
    lines = [json.loads(line) for line in data.splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    assert {event["run"] for event in events} == {mine}
    head = await home.app.stores.journal.head(mine)
    assert head is not None
    assert len(events) == head.seq
    assert sorted(line["file"]["path"] for line in lines if "file" in line) == ["0.md", "1.md"]
    assert [line["keys"]["name"] for line in lines if "keys" in line] == ["laptop"]
    assert his.encode() not in data
    assert b"SECRETDIGEST" not in data
    assert b"chess" not in data
    # Another tenant's principal of the same name is somebody else.
    assert len([line async for line in home.privacy.export("eve", ADA)]) == 1


async def test_what_is_erased_is_gone_from_the_disk_with_proof_and_the_chains_hold(home: House) -> None:
    schedule = await home.app.schedules.add(
        "0 7 * * *", "Ask Ada daily.", principal=ADA, files=[GivenFile(path="s.md", data=HERS)]
    )
    mine = [
        await home.run(ADA, "Where does Ada live?", HERS, SHARED),
        await home.run(f"schedule:{schedule.id}", "Ada again."),
    ]
    his = await home.run(BOB, "What does Bob like?", HIS, SHARED)
    assert b"Turing Street" in home.bytes_on_disk()
    before = await home.privacy.find("default", ADA)
    assert sorted(before.runs) == sorted(mine)
    erased = await home.privacy.erase("default", ADA)
    assert sorted(t.run for t in erased.tombstones) == sorted(mine)
    assert all(t.signature for t in erased.tombstones)
    assert (erased.left, erased.records, erased.documents, erased.folders) == ((), {"schedules": 1}, 1, 2)
    assert erased.blobs_due_at is None
    data = home.bytes_on_disk()
    for text in (b"Turing Street", b"Where does Ada live?", b"Ada again", b"Ask Ada daily"):
        assert text not in data, text
    for text in (b"likes chess", b"handbook of the house", b"What does Bob like?"):
        assert text in data, text
    archive = home.app.stores.archive
    assert archive is not None
    assert (await verify_all(home.app.stores.journal, archive, "default")).damaged == ()
    assert (await home.app.state(his)).goal.files
    # Twice is harmless; nothing is found any more.
    again = await home.privacy.erase("default", ADA)
    assert (again.tombstones, again.documents, again.records) == ((), 0, {})


async def test_runs_that_go_on_stop_an_erasure_before_it_begins(tmp_path: Path) -> None:
    async with house(tmp_path, Hanging()) as home:
        run = await home.app.submit("Wait.", plan=PLAN, principal=ADA)
        await home.app.stores.records.put(Record(kind="upload", tenant="default", key="u", value={"principal": ADA}))
        with pytest.raises(Conflict, match="cancel them first"):
            await home.privacy.erase("default", ADA)
        assert await home.app.stores.records.get("upload", "default", "u") is not None
        await home.app.cancel(run.id)
        await asyncio.wait_for(run.result(), 20)
        assert (await home.privacy.erase("default", ADA)).records == {"uploads": 1}


async def test_what_somebody_elses_fork_needs_stays_and_is_named(home: House) -> None:
    mine = await home.run(ADA, "Where does Ada live?", HERS)
    fork = await home.app.fork(mine, at=3, principal=BOB)
    await asyncio.wait_for(fork.result(), 20)
    erased = await home.privacy.erase("default", ADA)
    assert [(one.run, "forked" in one.why) for one in erased.left] == [(mine, True)]
    own = await home.privacy.erase("default", BOB)
    assert own.left == ()
    assert (await home.privacy.erase("default", ADA)).left == ()
    assert (await home.app.stores.journal.read(mine)) == ()


async def test_over_http_with_the_scope_alone_and_the_proof_is_in_the_log(home: House, serve: Serve) -> None:
    await home.run(ADA, "Where does Ada live?", HERS)
    door = Door()
    door.known["operator"] = Principal(id="user:o", tenant="default", scopes=ROLES["operator"], kind="user")
    served = await serve(home.app, authenticator=door, privacy_of=lambda app: home.privacy)

    async def ask(who: str, what: str, **body: object) -> tuple[int, str]:
        reply = await served.http.post(f"/v1/privacy/{what}", json=body, headers={"who": who})
        return reply.status_code, reply.text

    assert (await ask("operator", "export", subject=ADA))[0] == 403
    assert (await ask("operator", "erase", subject=ADA))[0] == 403
    assert (await ask("admin", "erase", subject=""))[0] == 422
    status, text = await ask("eve", "export", subject=ADA)
    assert (status, text.count("\n")) == (200, 1)
    assert json.loads((await ask("eve", "erase", subject=ADA))[1])["erased"]["tombstones"] == []
    status, text = await ask("admin", "export", subject=ADA)
    assert (status, "Turing Street" not in text, "Where does Ada live?" in text) == (200, True, True)
    status, text = await ask("admin", "erase", subject=ADA, reason="she asked for it")
    proof = json.loads(text)
    assert (status, len(proof["erased"]["tombstones"])) == (200, 1)
    newest, exported = (await log_of(home.app).page("default", limit=2)).deeds
    assert (newest.action, newest.object, newest.reason) == ("privacy.erased", ADA, "she asked for it")
    assert (newest.mac, exported.action) == (proof["deed"]["mac"], "privacy.exported")
    (run,) = newest.details["runs"]
    assert run[3] == proof["erased"]["tombstones"][0]["signature"]
    archive = home.app.stores.archive
    assert archive is not None
    assert (await verify_all(home.app.stores.journal, archive, log_tenant("default"))).damaged == ()
    assert local("default").may("privacy:write")
