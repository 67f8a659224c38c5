"""The processes of a trial: workers, submitters and the model, each forked from one that has imported everything."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from collegium.config import ModelsSection, Settings, WorkerSection
from collegium.wiring import open_collegium
from tests.chaos.far_side import FarSide, chaos_tools

LEASE_S = 1.0
START_S = 30.0
PRELOADED = (
    "collegium.wiring",
    "collegium.testing.model_server",
    "tests.chaos.processes",
    # what a worker imports with its first call
    "aiohttp",
    "genai_prices",
    "collegium.adapters.models.openai_compatible",
    "collegium.adapters.embedders.static",
)
NO_MODEL = "scripted:none"
FAR = "far"


@dataclass(frozen=True)
class Place:
    """Where a trial happens: its folder, the name of the model, and the servers, where it is not one SQLite file."""

    folder: Path
    model: str = NO_MODEL
    postgres: str | None = None
    redis: str | None = None
    host: str | None = None

    @property
    def has_model(self) -> bool:
        """Whether there is a model already."""
        return self.model != NO_MODEL

    @property
    def data(self) -> Path:
        """The data folder of collegium."""
        return self.folder / ("data" if self.host is None else f"data-{self.host}")

    @property
    def store(self) -> Path:
        """The store file."""
        return self.data / "collegium.db"

    @property
    def far(self) -> FarSide:
        """The world outside."""
        return FarSide(self.folder / FAR)

    @property
    def model_log(self) -> Path:
        """What the model was asked."""
        return self.folder / "model.jsonl"

    @property
    def settings(self) -> Settings:
        """Lease and time limits that suit a trial of seconds."""
        return Settings(
            data_dir=self.data,
            store=self.postgres or f"sqlite:///{self.store}",
            worker=WorkerSection(lease_s=LEASE_S),
            models=ModelsSection(timeout_s=5.0),
            redis=self.redis,
        )


class Child:
    """A process of the trial that can be killed, stopped and continued by its id."""

    def __init__(self, process: ForkServerProcess, told: Connection) -> None:
        self._process = process
        self._told = told
        self.name = ""
        self.last_words: list[Any] = []

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it lives."""
        return self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        """How it ended."""
        return self._process.exitcode

    async def told(self) -> Any:
        """The next thing it says; its first word is that it is ready."""
        async with asyncio.timeout(START_S):
            while not self._told.poll():
                if not self._process.is_alive() and not self._told.poll():
                    raise RuntimeError(f"process {self.pid} ended with {self._process.exitcode} before it was ready")
                await asyncio.sleep(0.005)
        return self._told.recv()

    def send(self, number: signal.Signals) -> None:
        """Signals this process and no other."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it without a word, stopped or not; what it had said before is in ``last_words``."""
        self._process.kill()
        self._process.join()
        with suppress(EOFError, OSError):
            while self._told.poll():
                self.last_words.append(self._told.recv())
        self._told.close()

    async def terminate(self, timeout_s: float = 30.0) -> int | None:
        """Asks it to end and waits; its exit code."""
        self._process.terminate()
        deadline = time.monotonic() + timeout_s
        while self._process.is_alive():
            if time.monotonic() > deadline:
                self.kill()
                return None
            await asyncio.sleep(0.01)
        self._process.join()
        self._told.close()
        return self._process.exitcode


def context() -> ForkServerContext:
    """Where processes come from: forked from one that has imported collegium, so that a start costs milliseconds."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    return made


def start(target: Callable[..., None], *arguments: object) -> Child:
    """A process that runs ``target(*arguments, told)``, and that ends when the driver does."""
    made = context()
    ours, theirs = made.Pipe(duplex=False)
    process = made.Process(target=_run, args=(target, *arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return Child(process, ours)


def _run(target: Callable[..., None], *arguments: object) -> None:
    parent = os.getppid()

    def watch() -> None:
        # The process we were forked from ends with the driver, whatever kills that.
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    target(*arguments)


class Telling(Protocol):
    """What a process says something to."""

    def send(self, told: Any) -> None:
        """Says it."""


def work(place: Place, told: Telling) -> None:
    """A worker process on all runs of the store, until SIGTERM; tells its worker's id first."""
    logging.basicConfig(filename=place.folder / "workers.log", format="%(process)d %(name)s %(message)s")

    async def main() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        tools = chaos_tools(place.far)
        alone = (sys.executable, "-m", "tests.chaos.lone", str(place.folder / FAR))
        async with open_collegium(place.settings, scope="all", model=place.model, tools=tools, alone=alone) as app:
            told.send(app._worker.id)
            await over.wait()

    asyncio.run(main())
