"""Processes that stay: how they are told to end, and where their log goes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collegium.wiring.patience import Ending

INTERRUPTED = 130


def run_process(main: Callable[[Ending], Coroutine[Any, Any, int]], *, name: str) -> int:
    """Runs ``main`` until it ends; on SIGTERM or Ctrl-C tells it to end in good order, on the second one ends at once.

    What it logs goes to standard error, each line with ``name``: whoever runs the process keeps it.
    """
    log_to_stderr(name)
    return asyncio.run(_until_told(main))


def log_to_stderr(name: str) -> None:
    """Sends the log to standard error, each line with the process's name; of libraries only warnings."""
    from collegium.config.secrets import redactor_of
    from collegium.telemetry import RedactedFormatter

    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    line = f"%(asctime)s %(levelname)s {name}[%(process)d] %(name)s: %(message)s"
    handler.setFormatter(RedactedFormatter(line, redactor_of(None, os.environ)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("collegium").setLevel(logging.INFO)


async def _until_told(main: Callable[[Ending], Coroutine[Any, Any, int]]) -> int:
    from collegium.wiring.patience import Ending

    ending = Ending(os._exit)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.tell, INTERRUPTED)
    return await main(ending)
