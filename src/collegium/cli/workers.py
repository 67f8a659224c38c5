"""``collegium workers``: which worker processes there are over a store, and their end in good order."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from collegium.cli.deeds import note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.cli.columns import Cell
    from collegium.domain.worker import WorkerCard

SEEN_S = 15.0
LOOK_S = 0.1
LAGGING_S = 0.25
SHORT_ID_CHARS = 8
_STYLES = {"ready": "green", "draining": "yellow"}

workers = LazyGroup(
    "workers",
    help="Look at the worker processes of a store, drain one.",
    lazy={
        "ls": Lazy("collegium.cli.workers:ls", "List the workers: state, load, lag, what they take."),
        "drain": Lazy("collegium.cli.workers:drain", "Let a worker end what it does and exit."),
    },
)


@command("ls")
@click.option("--agents", "has_agents", is_flag=True, help="Show how the agents of each worker do.")
@pass_session
def ls(session: Session, *, has_agents: bool) -> int:
    """List the workers over this store: state, load, how late their event loop runs, what they take.

    A worker shows its card every two seconds; one that is gone without a word fades after ten.
    """
    return session.execute(_list(session, has_agents=has_agents))


@command("drain")
@click.argument("worker", metavar="WORKER")
@pass_session
def drain(session: Session, worker: str) -> int:
    """Let WORKER (an id, or the end of one) end what it does and exit with 0.

    It takes nothing new; what it works on is parked and goes on with others at once. Returns as soon as the worker
    shows that it has heard, or is gone.
    """
    return session.execute(_drain(session, worker))


async def _list(session: Session, *, has_agents: bool) -> int:
    async with session.open() as app:
        cards = await app.fleet.workers()
    if session.is_json:
        session.emit({"items": cards, "next": None})
        return 0
    if not cards:
        print("No worker shows itself over this store: `collegium serve` or `collegium worker` starts one.")
        return 0
    _print_workers(session, cards)
    if has_agents:
        _print_agents(session, cards)
    return 0


def _print_workers(session: Session, cards: tuple[WorkerCard, ...]) -> None:
    from collegium.cli.columns import print_columns
    from collegium.cli.text import ago

    rows: list[tuple[Cell, ...]] = [
        (
            (short(c.worker), "cyan"),
            (c.state, _STYLES.get(c.state, "")),
            f"{c.load}/{c.concurrency}",
            (f"{c.lag_s * 1_000:.0f} ms", "yellow" if c.lag_s >= LAGGING_S else "dim"),
            f"{c.host}:{c.pid}",
            (ago(c.started_at, session.now()), "dim"),
            (c.version, "dim"),
            " ".join(c.capabilities),
        )
        for c in cards
    ]
    header = ("worker", "state", "load", "lag", "where", "started", "version", "takes")
    print_columns(session.out, header, rows, right=("load", "lag", "started"), is_cut=True)


def _print_agents(session: Session, cards: tuple[WorkerCard, ...]) -> None:
    from collegium.cli.columns import print_columns
    from collegium.cli.text import seconds

    rows: list[tuple[Cell, ...]] = [
        (
            (short(c.worker), "cyan"),
            a.name,
            (a.condition, "" if a.condition == "active" else "yellow"),
            f"{a.load}/{a.max_concurrent}",
            f"{a.failures}/{a.attempts}",
            seconds(a.seconds) if a.attempts else "",
            f"{a.rating:.2f}",
        )
        for c in cards
        for a in c.agents
    ]
    print()
    if not rows:
        print("No agent has worked here lately.")
        return
    header = ("worker", "agent", "condition", "load", "failed", "median", "rating")
    print_columns(session.out, header, rows, right=("load", "failed", "median", "rating"))


async def _drain(session: Session, text: str) -> int:
    from collegium.cli.person import user
    from collegium.domain.errors import StoreUnavailable

    async with session.open() as app:
        card = await app.fleet.find(text)
        await app.fleet.drain(card.worker, by=user(None))
        await note(app, "workers.drained", card.worker)
        deadline_s = time.monotonic() + SEEN_S
        state = card.state
        while state == "ready":
            if time.monotonic() > deadline_s:
                raise StoreUnavailable(
                    f"worker {short(card.worker)} has not heard the order within {SEEN_S:g} s: "
                    f"end process {card.pid} on {card.host} with SIGTERM",
                    worker=card.worker,
                )
            await asyncio.sleep(LOOK_S)
            now = {c.worker: c for c in await app.fleet.workers()}
            state = now[card.worker].state if card.worker in now else "stopping"
    if session.is_json:
        session.emit({"worker": card.worker, "state": state})
    else:
        print(f"worker {short(card.worker)} " + ("is gone" if state == "stopping" else "ends what it does and exits"))
    return 0


def short(worker: str) -> str:
    """The part of a worker's id that people type: its random end."""
    return worker[-SHORT_ID_CHARS:]
