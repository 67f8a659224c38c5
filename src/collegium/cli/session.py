"""What a command works with: options, settings, terminals, an open Collegium, and a clean end on Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import cached_property, update_wrapper
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click
import msgspec

from collegium.cli import failure
from collegium.cli.options import Options
from collegium.domain.errors import CollegiumError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from collegium.app import Collegium, Scope
    from collegium.config import Settings
    from collegium.runtime.room import IndexingProgress
    from collegium.wiring import PullProgress

INTERRUPTED = 130
MAX_WIDTH = 120
"""Wider lines are hard to read; figures then stand far from what they belong to."""
PIPE_WIDTH = 120
_NO_MODEL = "none:needed"
"""Given where no model is called, so that none is looked for."""

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """One invocation of a command.

    Attributes:
        run: The run that is being followed, once there is one: what an interruption names.
        answered: The run whose question was answered.
        is_left_to_workers: Whether other processes work on the run.
        given: Settings that the command's own options change, by dotted key.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.run: str | None = None
        self.answered: str | None = None
        self.is_left_to_workers = False
        self.given: dict[str, object] = {}

    @property
    def is_json(self) -> bool:
        """Whether the output is one JSON document."""
        return self.options.is_json

    @property
    def server(self) -> str | None:
        """URL of the server that is asked instead of a store."""
        return self.options.server or os.environ.get("COLLEGIUM_URL") or None

    @cached_property
    def settings(self) -> Settings:
        """The settings in force. Raises ``UsageError``."""
        from collegium.config import load_settings

        return load_settings(self.options.config, os.environ, self.options.overrides() | self.given)

    @cached_property
    def out(self) -> Console:
        """Standard output: results."""
        return self._console(is_error=False)

    @cached_property
    def err(self) -> Console:
        """Standard error: progress, and what a person is told besides."""
        return self._console(is_error=True)

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC)

    def emit(self, document: object) -> None:
        """Prints the one JSON document; indented for a person."""
        data = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode(document)
        if sys.stdout.isatty():
            data = msgspec.json.format(data, indent=2)
        print(data.decode())

    def tell(self, message: str) -> None:
        """One line for the person at the terminal."""
        self.err.print(message, style="dim", soft_wrap=True)

    def open(
        self,
        scope: Scope = "none",
        *,
        model: str | None = _NO_MODEL,
        settings: Settings | None = None,
        record: Path | None = None,
        replay: Path | None = None,
        on_indexing: IndexingProgress | None = None,
        on_pull: PullProgress | None = None,
    ) -> AbstractAsyncContextManager[Collegium]:
        """An open Collegium; by default one that only looks. See ``wiring.open_collegium``.

        Raises ``UsageError`` where a server is to be asked: this command cannot.
        """
        if self.server is not None:
            raise UsageError(
                f"this command works on a store: leave --server {self.server} out, or run it where the server runs",
                server=self.server,
            )
        from collegium.wiring import open_collegium

        return open_collegium(
            settings or self.settings,
            scope=scope,
            model=model,
            record=record,
            replay=replay,
            on_indexing=on_indexing,
            on_pull=on_pull,
        )

    def execute(self, work: Coroutine[Any, Any, int]) -> int:
        """Runs ``work`` to its end; on Ctrl-C or SIGTERM ends it cleanly and returns 130, on the second one at once."""
        self._log_to_file()
        return asyncio.run(self._until_stopped(work))

    async def _until_stopped(self, work: Coroutine[Any, Any, int]) -> int:
        task = asyncio.ensure_future(work)
        is_stopping = False

        def stop() -> None:
            nonlocal is_stopping
            if is_stopping:
                os._exit(INTERRUPTED)
            is_stopping = True
            if self.run is not None:
                print("stopping: what is there is being stored; Ctrl-C again ends at once", file=sys.stderr, flush=True)
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if not is_stopping:
                raise
            return self._stopped()

    def _stopped(self) -> int:
        if self.run is None:
            return failure.report("interrupted", "stopped", options=self.options, code=INTERRUPTED)
        from collegium.cli.text import short_id

        message = f"stopped; nothing is lost: `collegium runs resume {short_id(self.run)}` goes on"
        fields = {"run_id": self.run}
        if self.is_json:
            return failure.report("interrupted", message, options=self.options, code=INTERRUPTED, fields=fields)
        print(message, file=sys.stderr)
        return INTERRUPTED

    def _console(self, *, is_error: bool) -> Console:
        from rich.console import Console

        stream = sys.stderr if is_error else sys.stdout
        has_color = self.options.has_color(stream)
        console = Console(
            file=stream, no_color=not has_color, highlight=False, markup=False, emoji=False, soft_wrap=False
        )
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = PIPE_WIDTH
        console.width = min(console.width, MAX_WIDTH)
        return console

    def _log_to_file(self) -> None:
        """Sends what libraries log to a file: a terminal shows messages, never tracebacks."""
        from collegium.config.secrets import redactor_of
        from collegium.telemetry import RedactedFormatter

        logging.raiseExceptions = False
        try:
            folder = self.settings.data_dir / "logs"
        except CollegiumError:
            return  # whatever needs the settings says what is wrong with them
        handler = _LogFile(folder / "collegium.log", maxBytes=4_000_000, backupCount=2, delay=True, encoding="utf-8")
        line, redactor = "%(asctime)s %(levelname)s %(name)s %(message)s", redactor_of(self.settings, os.environ)
        handler.setFormatter(RedactedFormatter(line, redactor))
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def pass_session(
    function: Callable[Concatenate[Session, P], T],
) -> Callable[P, T]:
    """Gives the command a ``Session`` as its first argument."""

    def with_session(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(Session(click.get_current_context().ensure_object(Options)), *args, **kwargs)

    return update_wrapper(with_session, function)


class _LogFile(logging.handlers.RotatingFileHandler):
    """Makes its folder with the first message: a command that only looks leaves nothing behind."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()
