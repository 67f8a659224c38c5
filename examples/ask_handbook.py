"""Asks a question over a folder of documents and prints the answer with what it rests on.

Run it from the project's folder: .venv/bin/python examples/ask_handbook.py
"""

import asyncio

from collegium import open_collegium


# snippet: ask
async def main(question: str, folder: str) -> None:
    """Submits the question, follows the run, prints the result."""
    async with open_collegium() as c:
        run = await c.submit(question, files=[folder])
        async for event in run.events():
            print(event.seq, event.type, event.task or "")
        result = await run.result()

    print(result.answer.text if result.answer else result.reason)
    for place in result.answer.citations if result.answer else ():
        print(f"[{place.number}] {place.document} {place.start}-{place.end}: {place.quote!r}")


asyncio.run(main("How long are nightly backups of ledger-db kept?", "examples/handbook/docs"))
# end snippet
