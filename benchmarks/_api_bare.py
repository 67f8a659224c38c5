"""The peer of ``benchmarks/api.py``: bare Starlette on the same uvicorn, which answers with bytes that are at hand."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.server.listener import listen, url_of


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    asyncio.run(serve({path.name: path.read_bytes() for path in folder.iterdir()}))


async def serve(bodies: dict[str, bytes]) -> None:
    """Answers with ``bodies``, each under its name, until standard input ends."""

    async def read(request: Request) -> Response:
        return Response(bodies[request.path_params["name"]], media_type="application/json")

    async def write(request: Request) -> Response:
        await request.body()
        return Response(bodies["accepted"], 202, media_type="application/json")

    app = Starlette(routes=[Route("/{name}", read, methods=["GET"]), Route("/{name}", write, methods=["POST"])])
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", http="httptools"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    print(url_of(listening), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    main()
