"""``collegium schedules``: what is typed, what is shown, and what a run says of the schedule that made it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collegium.adapters.sqlite.store import open_store
from collegium.domain.ids import Ids
from collegium.runtime.acceptance import Acceptance
from collegium.runtime.firing import Firer
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel
from tests.unit.cli.calling import collegium, document


def fire(store: Path, *, later: timedelta) -> None:
    """A worker looks at the schedules of the store some time from now."""

    async def look() -> None:
        clock = FakeClock(datetime.now(UTC) + later)
        opened = open_store(store, clock=clock)
        memory = memory_stores(clock)
        stores = type(memory)(
            journal=opened.journal,
            bus=memory.bus,
            records=opened.records,
            blobs=opened.blobs,
            presence=memory.presence,
        )
        async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
            acceptance = Acceptance(
                opened.records, ids=Ids(lambda: 1), pins=app.pins, scheduler=app.scheduler, models=None
            )
            await Firer(app.schedules, acceptance.accept, journal=opened.journal, clock=clock).sweep()
        await opened.aclose()

    asyncio.run(look())


def test_a_schedule_from_its_beginning_to_its_end(project: Path, capsys: pytest.CaptureFixture[str]):
    added = document(
        capsys, "schedules", "add", "30 7 * * *", "Who owns it?", "--tz", "Europe/Berlin", "--files", "docs",
        "--limit-usd", "0.5", "--priority", "high", "--name", "owners",
    )  # fmt: skip
    assert added["status"] == "active"
    assert {f["path"] for f in added["files"]} >= {"owners.md"}
    code, out, _ = collegium(capsys, "schedules", "ls")
    assert code == 0
    assert "owners" in out
    assert "30 7 * * * Europe/Berlin" in out
    store = next(project.parent.rglob("collegium.db"))
    fire(store, later=timedelta(days=1))
    shown = document(capsys, "schedules", "show", "owners")
    run = shown["last_run"]
    (firing,) = shown["firings"]
    assert (firing["outcome"], firing["run_id"], firing["status"]) == ("submitted", run, "queued")
    code, out, _ = collegium(capsys, "schedules", "show", added["schedule_id"][-8:])
    assert code == 0
    assert "submitted" in out
    assert run[-10:-2] in out

    found = document(capsys, "runs", "show", run)
    assert found["principal"] == f"schedule:{added['schedule_id']}"
    assert f"schedule {added['schedule_id'][-8:]}" in collegium(capsys, "runs", "show", run)[1]
    assert document(capsys, "runs", "ls")["items"][0]["principal"] == f"schedule:{added['schedule_id']}"

    assert document(capsys, "schedules", "pause", "owners", "--reason", "holidays")["paused"] == "holidays"
    assert "paused: holidays" in collegium(capsys, "schedules", "show", "owners")[1]
    fire(store, later=timedelta(days=3))
    assert len(document(capsys, "runs", "ls")["items"]) == 1
    assert document(capsys, "schedules", "resume", "owners")["status"] == "active"
    assert document(capsys, "schedules", "rm", "owners") == {"schedule_id": added["schedule_id"], "is_removed": True}
    assert document(capsys, "schedules", "ls")["items"] == []
    assert document(capsys, "runs", "show", run)["run_id"] == run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "61 * * * *", "Goal"], "the minute '61'"),
        (["add", "0", "7", "Goal"], "unexpected extra argument"),
        (["add", "0 7 * * *", "Goal", "--tz", "Berln"], "did you mean Europe/Berlin"),
        (["add", "0 7 * * *", "Goal", "--missed", "all"], "overlap=queue"),
        (["add", "0 7 * * *", "Goal", "--limit-usd", "much"], "'much' is no amount"),
        (["add", "0 7 * * *", "Goal", "--model", "nowhere:x"], "nowhere"),
        (["add", "0 7 * * *", "Goal", "--files", "nowhere"], "no file or folder nowhere"),
        (["add", "0 7 * * *", " "], "the goal is empty"),
        (["show", "nothing"], "there is twice"),
        (["show", "sch_"], "2 schedules have 'sch_'"),
    ],
)
def test_what_cannot_be(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str):
    document(capsys, "schedules", "add", "@daily", "One", "--name", "twice")
    document(capsys, "schedules", "add", "@daily", "Two")
    code, out, err = collegium(capsys, "schedules", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(document(capsys, "schedules", "ls")["items"]) == 2
