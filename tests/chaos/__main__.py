"""``python -m tests.chaos``: trials that kill and starve real processes, and a table of what came of them."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psycopg

from collegium.testing.servers import postgres_server, redis_server
from tests.chaos import kills, power_trials, server_trials, world_trials
from tests.chaos.outcome import Outcome, load, table
from tests.chaos.processes import Place


class Kind(NamedTuple):
    """A kind of trial: how it is done, and how much of it in each tier.

    Attributes:
        size: Kills, pauses, cuts or rounds of one trial in the long tier.
        trials: How many trials the long tier has.
        quick: Size of the one trial in the quick tier.
        stores: Where it can be tried.
    """

    run: Callable[[Place, Outcome, int], Awaitable[None]]
    size: int
    trials: int
    quick: int
    stores: tuple[str, ...] = ("sqlite", "postgres")


TRIALS = {
    "kill": Kind(kills.uniform, 12, 40, 3),
    "aimed": Kind(kills.aimed, 12, 30, 3),
    "both": Kind(kills.both, 12, 8, 2),
    "submit": Kind(kills.submitter, 12, 21, 3),
    "pause": Kind(kills.paused, 10, 20, 2),
    "network": Kind(world_trials.network, 6, 5, 1),
    "disk": Kind(world_trials.disk, 3, 4, 2, ("sqlite",)),
    "power": Kind(power_trials.store, 60, 4, 24, ("sqlite",)),
    "power-app": Kind(power_trials.whole, 6, 3, 2, ("sqlite",)),
    "servers": Kind(server_trials.servers, 12, 5, 3, ("postgres",)),
    "hosts": Kind(server_trials.hosts, 6, 5, 2, ("postgres",)),
}


def wanted(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """Kind and seed of every trial, kinds in turn."""
    names = arguments.only.split(",") if arguments.only else [n for n in TRIALS if arguments.store in TRIALS[n].stores]
    counts = {n: TRIALS[n].trials if arguments.long else 1 for n in names}
    if arguments.trials is not None:
        counts = dict.fromkeys(names, arguments.trials)
    most = max(counts.values())
    return [(n, arguments.seed + i) for i in range(most) for n in names if i < counts[n]]


class Servers(NamedTuple):
    """URLs of the servers that all trials share; each has a database of its own."""

    postgres: str
    redis: str

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.postgres.rpartition("/")[0] + f"/{name}"


async def run_trial(
    kind: str,
    seed: int,
    folder: Path,
    size: int | None = None,
    *,
    is_kept: bool = False,
    servers: Servers | None = None,
) -> Outcome:
    """One trial in a folder of its own, which is kept where something was violated."""
    outcome = Outcome(kind, seed)
    began = time.monotonic()
    place = Place(folder / f"{kind}-{seed}")
    if servers is not None:
        place = replace(place, postgres=servers.database(f"{kind}-{seed}"), redis=servers.redis)
    shutil.rmtree(place.folder, ignore_errors=True)
    try:
        await TRIALS[kind].run(place, outcome, size or TRIALS[kind].size)
    except Exception as error:  # noqa: BLE001 - a trial that breaks off is a trial that failed
        outcome.wrong("lost", f"the trial broke off: {type(error).__name__}: {error}")
    outcome.seconds = round(time.monotonic() - began, 1)
    if outcome.is_right and not is_kept:
        shutil.rmtree(place.folder, ignore_errors=True)
    return outcome


def main() -> int:
    """Runs what is asked for; 1 where anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--long", action="store_true", help="at least 1,000 kills, within 40 minutes on two cores")
    parser.add_argument("--quick", action="store_true", help="one small trial of each kind, in about a minute")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="postgres: with Redis")
    parser.add_argument("--only", default="", help=f"kinds, by comma: {', '.join(TRIALS)}")
    parser.add_argument("--trials", type=int, help="trials of each kind")
    parser.add_argument("--kills", type=int, help="kills, pauses, cuts or rounds of each trial")
    parser.add_argument("--lanes", type=int, default=1, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="file of finished trials, one JSON line each; goes on behind them")
    parser.add_argument("--keep", action="store_true", help="keep the folders of trials that went well, too")
    parser.add_argument("--folder", type=Path, help="where trials happen; kept where something was violated")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="collegium-chaos-"))
    done = load(arguments.resume) if arguments.resume else []
    over = {(o.kind, o.seed) for o in done}
    waiting = [(kind, seed) for kind, seed in wanted(arguments) if (kind, seed) not in over]

    async def lane() -> None:
        while waiting:
            kind, seed = waiting.pop(0)
            size = TRIALS[kind].quick if arguments.quick else arguments.kills
            outcome = await run_trial(kind, seed, folder, size, is_kept=arguments.keep, servers=servers)
            done.append(outcome)
            _note(outcome, arguments.resume, folder)

    async def lanes() -> None:
        await asyncio.gather(*(lane() for _ in range(arguments.lanes)))

    with ExitStack() as stack:
        servers = None
        if arguments.store == "postgres":
            postgres, redis = stack.enter_context(postgres_server()), stack.enter_context(redis_server())
            servers = Servers(postgres.url, redis.url)
        with suppress(KeyboardInterrupt):  # the table of what there is
            asyncio.run(lanes())
    print(table(done))
    return 0 if all(o.is_right for o in done) and not waiting else 1


def _note(outcome: Outcome, file: Path | None, folder: Path) -> None:
    if file is not None:
        with file.open("a") as lines:
            lines.write(outcome.to_line() + "\n")
    shown = {kind: sentences[:3] for kind, sentences in outcome.wrongs.items()}
    said = "ok" if outcome.is_right else f"WRONG {shown}; see {folder / f'{outcome.kind}-{outcome.seed}'}"
    start = f"{outcome.kind} {outcome.seed}: {outcome.kills} kills, {outcome.runs} runs, {outcome.seconds} s"
    print(f"{start}: {said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
