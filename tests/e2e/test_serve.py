"""Serving and working processes: what they answer, how they end, what becomes of workers that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collegium.app import Collegium, Run
from collegium.config import Settings, WorkerSection
from collegium.testing.servers import MissingServer, postgres_server
from collegium.wiring import open_collegium
from tests.e2e.serving import LEASE_S, Place, Process, is_there

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked at in /proc")
QUICK = {"reply": "Ann owns it."}
SLOW = QUICK | {"delay_s": 0.4}
ENDLESS = QUICK | {"delay_s": 3600}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, QUICK)
    yield made
    made.close()


@asynccontextmanager
async def submitter(place: Place, store: str | None = None) -> AsyncIterator[Collegium]:
    store = store or f"sqlite:///{place.data}/collegium.db"
    settings = Settings(data_dir=place.data, store=store, worker=WorkerSection(lease_s=LEASE_S))
    async with open_collegium(settings, scope="none", model=place.model) as app:
        yield app


async def succeeded(runs: list[Run]) -> bool:
    reports = await asyncio.wait_for(asyncio.gather(*(run.result() for run in runs)), 90)
    return all(report.status == "succeeded" for report in reports)


async def started(app: Collegium, run: Run) -> bool:
    return any(t.status == "running" for t in (await app.state(run.id)).tasks.values())


async def until_started(app: Collegium, runs: list[Run]) -> None:
    """Until one of them is worked on; the newest are looked at first, since the others may have ended by now."""
    async with asyncio.timeout(60):
        while True:
            for run in reversed(runs):
                if await started(app, run):
                    return
            await asyncio.sleep(0.02)


async def test_fifty_runs_end_though_a_worker_is_killed(place: Place) -> None:
    place.write(SLOW)
    serve = place.serve("--workers", "2")
    serve.until_ready()
    serve.until(lambda: len(serve.workers()) == 2)
    async with submitter(place) as app:
        runs = [await app.submit(f"Who owns service {n}?") for n in range(50)]
        await until_started(app, runs)
        killed = serve.workers()["worker-1"]
        os.kill(killed, signal.SIGKILL)
        assert await succeeded(runs)
        for run in runs:
            assert await app.stores.journal.verify(run.id) is None  # type: ignore[attr-defined]
    serve.until(lambda: serve.workers()["worker-1"] != killed)
    serve.until(lambda: serve.metric("collegium_worker_restarts_total") == 1)
    assert f"worker-1 was ended by signal {signal.SIGKILL.value}" in serve.log
    # Workers say each second what they have done; of the killed one that counts up to its last word.
    serve.until(lambda: serve.metric('collegium_runs_total{status="succeeded"}') >= 1)
    serve.until(lambda: serve.metric("collegium_dispatch_seconds_count") >= 50)
    assert serve.metric('collegium_runs_total{status="succeeded"}') <= 50
    serve.send()
    assert serve.ended() == 0


async def test_what_a_drained_process_did_goes_on_with_the_next(place: Place) -> None:
    place.write(ENDLESS)
    serve = place.serve()
    async with submitter(place) as app:
        run = await app.submit("Who owns the payments service?")
        await until_started(app, [run])
        serve.send()
        assert serve.ended() == 0
        task = (await app.state(run.id)).tasks["plan"]
        assert task.status in ("ready", "parked")
        assert "lapsed" not in {event.type.partition(".")[2] async for event in app.events(run.id)}
        place.write(QUICK)
        place.serve()
        assert await succeeded([run])


def test_workers_end_when_the_process_that_started_them_is_killed(place: Place) -> None:
    serve = place.serve("--workers", "2")
    serve.until(lambda: len(serve.workers()) == 2)
    workers = list(serve.workers().values())
    assert all(is_there(pid) for pid in workers)
    serve.send(signal.SIGKILL)
    assert serve.ended() == -signal.SIGKILL
    serve.url = ""
    serve.until(lambda: not any(is_there(pid) for pid in workers))


def test_it_is_not_ready_while_it_drains_and_a_second_signal_ends_it_at_once(place: Place) -> None:
    serve = place.serve()
    serve.until_ready()
    worker = serve.workers()["worker-1"]
    os.kill(worker, signal.SIGSTOP)  # it hears no signal: the drain takes as long as it may
    serve.send()
    serve.until(lambda: serve.get("/readyz").status == 503)
    found = serve.get("/readyz")
    assert found.document["code"] == "draining"
    assert serve.get("/healthz").status == 200
    serve.send()
    assert serve.ended() == 130
    serve.url = ""
    serve.until(lambda: not is_there(worker))


def test_a_store_that_goes_away_is_waited_for(place: Place) -> None:
    pytest.importorskip("psycopg")
    try:
        with postgres_server() as server:
            server.stop()
            _away_and_back(place, server.url, stop=server.stop, start=server.start)
    except MissingServer as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def _away_and_back(place: Place, url: str, *, stop, start) -> None:
    serve = place.serve(COLLEGIUM_STORE=url, COLLEGIUM_POSTGRES__PATIENCE_S="1")
    assert serve.get("/healthz").status == 200
    assert_away(serve)
    start()
    serve.until_ready()

    async def one_more() -> bool:
        async with submitter(place, url) as app:
            return await succeeded([await app.submit("Who owns the payments service?")])

    assert asyncio.run(one_more())
    stop()
    serve.until(lambda: serve.get("/readyz").status == 503)
    assert_away(serve)
    assert serve.get("/healthz").status == 200
    assert serve.metric('collegium_store_up{store="journal"}') == 0
    start()
    serve.until_ready()
    assert asyncio.run(one_more())
    assert "restart" not in serve.log
    assert "started again" not in serve.log
    serve.send()
    assert serve.ended() == 0


def assert_away(serve: Process) -> None:
    found = serve.get("/readyz")
    assert found.status == 503
    assert found.headers["content-type"] == "application/problem+json"
    assert int(found.headers["retry-after"]) >= 1
    assert "store" in {away["what"] for away in found.document["away"]}
    assert "collegium:collegium" not in found.body.decode(), "no password is shown"


def test_a_store_that_is_away_at_the_start_can_be_the_end(place: Place) -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        store = f"postgresql://ann:secret@127.0.0.1:{nobody.getsockname()[1]}/none"
        for command in (["worker"], ["serve", "--port", "0"]):
            done = place.run(*command, "--store", store, "--exit-if-unavailable")
            assert done.returncode == 5
            assert "127.0.0.1" in done.stderr
            assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["worker", "--capabilities", "resarch,write"], "did you mean research"),
        (["serve", "--host", "0.0.0.0"], "--health-only"),
        (["serve", "--host", "no-such-host.invalid", "--health-only"], "no-such-host.invalid"),
        (["serve", "--workers", "-1"], "--workers"),
        (["worker", "--store", "mysql://x/y"], "mysql"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:3]),
)
def test_what_cannot_be_is_said(place: Place, argv: list[str], said: str) -> None:
    done = place.run(*argv)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = place.run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_health_alone_may_be_seen_from_elsewhere(place: Place) -> None:
    serve = place.serve("--workers", "0", "--host", "0.0.0.0", "--health-only")
    serve.url = serve.url.replace("0.0.0.0", "127.0.0.1")
    serve.until_ready()
    assert serve.get("/healthz", Host="collegium.example.com").status == 200
    assert serve.get("/v1/runs").status == 404
    serve.send()
    assert serve.ended() == 0


def test_detached_goals_are_left_to_the_workers_and_a_worker_is_drained_by_order(place: Place) -> None:
    serve = place.serve("--workers", "2")
    serve.until_ready()
    serve.until(lambda: serve.metric('collegium_workers{state="ready"}') == 2)
    detached = json.loads(place.run("run", "--detach", "Who owns it?", "--json").stdout)
    assert (detached["workers"], detached["log"]) == (2, None)
    run = detached["run_id"]
    serve.until(lambda: json.loads(place.run("runs", "show", run, "--json").stdout)["status"] == "succeeded")
    assert not list(place.data.glob("logs/run_*")), "no process of its own"

    first, second = json.loads(place.run("workers", "ls", "--json").stdout)["items"]
    drained = place.run("workers", "drain", first["worker"][-8:], "--json")
    assert drained.returncode == 0
    assert json.loads(drained.stdout)["worker"] == first["worker"]
    serve.until(lambda: not is_there(first["pid"]))
    serve.until(lambda: serve.metric('collegium_workers{state="ready"}') == 1)
    # The card goes before the process does, and what supervises it looks once a beat.
    serve.until(lambda: "was drained and is not started again" in serve.log)
    serve.until_ready()

    # Killed: its card still counts for seconds, and nobody is left the work who cannot do it.
    serve.send(signal.SIGKILL)
    os.kill(second["pid"], signal.SIGKILL)
    serve.ended()
    serve.url = ""
    serve.until(lambda: not is_there(second["pid"]))
    assert json.loads(place.run("workers", "ls", "--json").stdout)["items"]
    own = json.loads(place.run("run", "--detach", "Who owns it now?", "--json").stdout)
    assert own["log"] is not None
    serve.until(lambda: json.loads(place.run("runs", "show", own["run_id"], "--json").stdout)["status"] == "succeeded")


async def test_a_run_says_what_it_waits_for_where_nobody_takes_it(place: Place) -> None:
    planner = place.start("worker", "--capabilities", "plan")
    planner.first()
    async with submitter(place) as app:
        run = await app.submit("Who owns the payments service?")

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(place.run("runs", "show", run.id, "--json").stdout)
        return found

    planner.until(lambda: "waiting" in shown())
    (waiting,) = shown()["waiting"]
    assert waiting["capability"] != "plan"
    assert f"a worker that takes {waiting['capability']}" in waiting["waits_for"]
    assert waiting["waits_for"] in " ".join(place.run("runs", "show", run.id).stdout.split())
    planner.send()
    assert planner.ended() == 0
    assert "there is none" in shown()["waiting"][0]["waits_for"]


async def test_a_worker_takes_what_it_may_and_answers_probes(place: Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    planner = place.start("worker", "--capabilities", "plan", "--health-port", str(port))
    assert planner.first()["worker"].startswith("wrk_")
    planner.url = f"http://127.0.0.1:{port}"
    planner.until_ready()
    async with submitter(place) as app:
        run = await app.submit("Who owns the payments service?")
        async with asyncio.timeout(60):
            while (state := await app.state(run.id)).tasks["plan"].status != "succeeded":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        others = [t for name, t in state.tasks.items() if name != "plan"]
        assert {t.status for t in others} <= {"pending", "ready"}
        writer = place.start("worker", "--capabilities", "research,write,operate,oversee")
        writer.first()
        assert await succeeded([run])
        workers = [event.body.worker async for event in app.events(run.id) if event.type == "task.started"]  # type: ignore[attr-defined]
    assert len(set(workers)) == 2, "the one planned, the other did the rest"
    assert planner.metric("collegium_dispatch_seconds_count") == 1
    for process in (planner, writer):
        process.send(signal.SIGINT)
        assert process.ended() == 0
