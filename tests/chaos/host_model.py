"""``python -m tests.chaos.host_model PORT LOG SLOW_FROM SLOW_TO``: the model of the trials on a host's loopback."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

from collegium.testing.model_server import ModelServer
from tests.chaos.model import ChaosModel


def _watch() -> None:
    while os.read(0, 1_024):  # not through the interpreter's buffer, whose lock would be held at its end
        continue
    os._exit(1)  # the driver is gone


async def _main() -> None:
    port, log, *slow_s = sys.argv[1:]
    model = ChaosModel(Path(log), (float(slow_s[0]), float(slow_s[1])))
    server = ModelServer(respond=model.respond, port=int(port))
    await server.start()
    print(server.url, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    asyncio.run(_main())
