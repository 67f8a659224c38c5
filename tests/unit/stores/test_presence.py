"""Files of workers: what a folder shows of processes that were stopped, robbed of their file, or killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from collegium.adapters.beats import Beats
from collegium.adapters.presence import FilePresence
from collegium.testing.clock import FakeClock

LEASE_S = 0.2
PROCESS = """
import asyncio, sys
from pathlib import Path
from collegium.adapters.presence import FilePresence

async def main():
    presence = FilePresence(Path(sys.argv[1]), lease_s=0.2)
    await presence.announce("wrk_child")
    print("announced", flush=True)
    while True:
        await asyncio.sleep(presence.tick())

asyncio.run(main())
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROCESS, str(folder)], stdout=subprocess.PIPE, text=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread or in another process
            await asyncio.sleep(0.005)


async def dead_within_deadline(presence: FilePresence, worker: str) -> None:
    async with asyncio.timeout(20):
        while worker not in await presence.dead():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def test_a_worker_whose_file_was_removed_makes_it_anew(tmp_path: Path) -> None:
    mine, others = FilePresence(tmp_path / "workers", lease_s=LEASE_S), FilePresence(tmp_path / "workers")
    await mine.announce("wrk_1")
    file = tmp_path / "workers" / "wrk_1.lock"
    file.unlink()
    (tmp_path / "workers").rmdir()
    mine.tick()
    await until(file.exists)
    assert await others.dead() == ()
    await mine.abandon("wrk_1")
    assert await others.dead() == ("wrk_1",)
    await others.withdraw("wrk_1")
    assert names(tmp_path / "workers") == []


async def test_a_process_that_is_stopped_is_dead_after_a_while_and_lives_when_it_goes_on(tmp_path: Path) -> None:
    presence = FilePresence(tmp_path, lease_s=LEASE_S)
    child = start(tmp_path)
    try:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "announced\n"
        assert await presence.dead() == ()
        os.kill(child.pid, signal.SIGSTOP)
        await dead_within_deadline(presence, "wrk_child")
        await presence.withdraw("wrk_child")
        assert names(tmp_path) == ["wrk_child.lock"], "it may go on, and then it has to be seen"
        os.kill(child.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while await presence.dead():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.02)
        child.kill()
        await asyncio.to_thread(child.wait)
        assert await presence.dead() == ("wrk_child",), "the kernel has freed the lock: no lease has to pass"
    finally:
        child.kill()
        child.communicate()


async def test_two_that_look_at_once_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    (tmp_path / "wrk_1.lock").write_bytes(b"")
    views = [FilePresence(tmp_path) for _ in range(8)]
    found = await asyncio.gather(*(asyncio.to_thread(asyncio.run, v.dead()) for v in views for _ in range(25)))
    assert set(found) == {("wrk_1",)}


async def test_no_beat_counts_that_could_not_be_made() -> None:
    clock = FakeClock()
    made: list[float] = []
    is_broken = False

    def beat() -> None:
        made.append(clock.monotonic())
        if is_broken:
            raise OSError(28, "No space left on device")

    beats = Beats(beat, lease_s=LEASE_S, now_s=clock.monotonic)
    beats.start()
    assert beats.fresh_s() == LEASE_S / 2
    is_broken = True
    await clock.advance(LEASE_S / 2)
    before = len(made)
    await until(lambda: len(made) > before + 1)
    assert beats.fresh_s() <= 0
    is_broken = False
    await until(lambda: beats.fresh_s() > 0)
    beats.stop()
    beats.stop()
