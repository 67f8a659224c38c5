"""``python -m tests.chaos.host_worker PLACE``: a worker on a host, until SIGTERM or the end of its standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from tests.chaos.processes import Place, work


class _Line:
    """Says to standard output what a child says to its pipe."""

    def send(self, told: str) -> None:
        print(told, flush=True)


def _watch() -> None:
    while os.read(0, 1_024):  # not through the interpreter's buffer, whose lock would be held at its end
        continue
    os._exit(1)  # the driver is gone


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    threading.Thread(target=_watch, daemon=True).start()
    work(Place(**{**fields, "folder": Path(fields["folder"])}), _Line())
