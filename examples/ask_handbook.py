"""Asks a question over a folder of documents and prints the answer with what it rests on.

Run it from the project's folder: .venv/bin/python examples/ask_handbook.py "Who leads the team that owns notify-relay?"
"""

import asyncio
import sys
from pathlib import Path

from collegium import open_collegium

DOCUMENTS = Path(__file__).parent / "handbook" / "docs"


async def main(question: str) -> None:
    """Submits the question, follows the run, prints the result."""
    # snippet: ask
    async with open_collegium() as c:
        run = await c.submit(question, files=[str(DOCUMENTS)])
        async for event in run.events():
            print(event.seq, event.type, event.task or "")
        result = await run.result()

    print(result.answer.text if result.answer else result.reason)
    for place in result.answer.citations if result.answer else ():
        print(f"[{place.number}] {place.document} {place.start}-{place.end}: {place.quote!r}")
    # end snippet


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "How long are nightly backups of ledger-db kept?"))
