"""Submits to an API that is killed in the middle, and sent again with the same key.

``python -m tests.e2e.submits --times 1000`` counts what came of them, over a store of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.e2e.serving import WAIT_S, Place, Process

AT_ONCE = 20
"""So many submits are under way when the API is killed."""


class Submit(NamedTuple):
    """A submit, and what was answered when it was sent first; None where no answer came."""

    key: str
    run: str | None

    @property
    def body(self) -> dict[str, str]:
        """The goal, which names the key: so it is seen how many runs it got."""
        return {"goal": f"Say {self.key}."}


class Tally(NamedTuple):
    """What came of all submits.

    Attributes:
        sent: How many different ones.
        killed: How many of them had no answer when the API was killed.
        kept: How many of those had a run all the same.
        twice: How many have more than one run.
        lost: How many have none, or another than they were told.
        wrong: Answers that were neither a run nor an error that is to come.
    """

    sent: int = 0
    killed: int = 0
    kept: int = 0
    twice: int = 0
    lost: int = 0
    wrong: int = 0

    @property
    def is_right(self) -> bool:
        """Whether each submit has exactly one run, and every answer was right."""
        return self.twice == self.lost == self.wrong == 0


async def tried(
    place: Place, times: int, *, seed: int = 0, told: Callable[[Tally], None] = lambda tally: None
) -> Tally:
    """What comes of at least ``times`` submits that a kill has cut off; ``told`` hears it after each kill."""
    chance = random.Random(seed)
    tally, runs = Tally(), dict[str, str]()
    serve = _start(place)
    span_s = await _span_s(serve, [f"{seed}-none-{n}" for n in range(AT_ONCE)])
    while tally.killed < times:
        submits = [f"{seed}-{tally.sent + n}" for n in range(AT_ONCE)]
        first = await _killed(serve, submits, chance.uniform(0.0, span_s))
        serve = _start(place)
        broken = [one for one in first if one.run is None]
        before = await _goals(serve, is_newest_only=True)
        wrong = await _sent_again(serve, first, runs)
        tally = tally._replace(
            sent=tally.sent + len(first),
            killed=tally.killed + len(broken),
            kept=tally.kept + sum(before[one.body["goal"]] for one in broken),
            wrong=tally.wrong + wrong,
        )
        told(tally)
    found = await _goals(serve)
    twice = sum(count > 1 for count in found.values())
    return tally._replace(twice=twice, lost=tally.lost + sum(found[f"Say {key}."] == 0 for key in runs))


def _start(place: Place) -> Process:
    serve = place.serve("--workers", "0")
    serve.until_ready()
    return serve


async def _span_s(serve: Process, keys: list[str]) -> float:
    """How long submits take that are sent at once to an API that has just begun; it is killed within this time."""
    async with _client(serve) as http:
        await asyncio.gather(*(http.get("/healthz") for _ in keys))
        began_s = time.monotonic()
        await asyncio.gather(*(_submit(http, Submit(key, None)) for key in keys))
        return time.monotonic() - began_s


async def _killed(serve: Process, keys: list[str], after_s: float) -> list[Submit]:
    """Submits that are sent at once to an API that is killed after a while."""
    async with _client(serve) as http:
        await asyncio.gather(*(http.get("/healthz") for _ in keys))  # so that the connections are there
        sent = [asyncio.create_task(_submit(http, Submit(key, None))) for key in keys]
        # Where in its work the kill meets the API is the trial: there is nothing to wait for.
        await asyncio.wait(sent, timeout=after_s)
        serve.send(signal.SIGKILL)
        await asyncio.to_thread(serve.ended)
        return [Submit(key, await one) for key, one in zip(keys, sent, strict=True)]


async def _submit(http: httpx.AsyncClient, submit: Submit) -> str | None:
    try:
        reply = await http.post("/v1/runs", json=submit.body, headers={"idempotency-key": submit.key})
    except httpx.TransportError:
        return None
    assert reply.status_code == 202, reply.text
    run: str = reply.json()["run_id"]
    return run


async def _sent_again(serve: Process, first: list[Submit], runs: dict[str, str]) -> int:
    """How many were answered wrongly; ``runs`` has the run of each key from now on."""
    wrong = 0
    async with _client(serve) as http:
        for one in first:
            reply = await _answered(http, one.key, one.body)
            run = reply.json().get("run_id", "") if reply.status_code == 202 else ""
            wrong += not run or one.run not in (None, run)
            runs[one.key] = run
            other = await _answered(http, one.key, {"goal": "Say something else."})
            wrong += (other.status_code, other.json().get("code")) != (422, "key_reused")
    return wrong


async def _answered(http: httpx.AsyncClient, key: str, body: dict[str, str]) -> httpx.Response:
    """The answer, once it is not that the first try, which was killed, goes on."""
    async with asyncio.timeout(WAIT_S):
        while True:
            reply = await http.post("/v1/runs", json=body, headers={"idempotency-key": key})
            if reply.status_code != 409:
                return reply
            await asyncio.sleep(0.1)


async def _goals(serve: Process, *, is_newest_only: bool = False) -> Counter[str]:
    """How many runs each goal has; of the newest page alone, or of all."""
    found, after = Counter[str](), None
    async with _client(serve) as http:
        while True:
            asked = {"limit": "200"} | ({} if after is None else {"after": after})
            page = (await http.get("/v1/runs", params=asked)).raise_for_status().json()
            found.update(one["goal"] for one in page["items"])
            after = page["next"]
            if after is None or is_newest_only:
                return found


def _client(serve: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=serve.url, timeout=WAIT_S, trust_env=False)


def main() -> None:
    """Prints the tally as JSON; exits with 1 unless each submit has exactly one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000, help="submits that a kill has to cut off")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="submits-"))
    place = Place(folder, {"reply": "Said."})
    try:
        tally = asyncio.run(
            tried(place, asked.times, seed=asked.seed, told=lambda so_far: print(so_far, file=sys.stderr))
        )
    finally:
        place.close()
        shutil.rmtree(folder)
    print(json.dumps({**tally._asdict(), "ok": tally.is_right}))
    raise SystemExit(0 if tally.is_right else 1)


if __name__ == "__main__":
    main()
