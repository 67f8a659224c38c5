"""Asks a running server a question over files of this machine.

.venv/bin/collegium serve
.venv/bin/python examples/ask_server.py http://127.0.0.1:8420 "How long are backups kept?" examples/handbook/docs
"""

import asyncio
import os
import sys

from collegium.client import Client


# snippet: client
async def main(url: str, goal: str, *files: str) -> None:
    """Submits the goal, follows the run, prints its answer."""
    async with Client(url, key=os.environ.get("COLLEGIUM_KEY")) as server:
        run = await server.submit(goal, files=files)
        async for event in run.events():
            print(event.seq, event.type)
        report = await run.result()
        print(report.answer.text if report.answer else report.reason)


# end snippet

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
