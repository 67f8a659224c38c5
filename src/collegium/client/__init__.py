"""The typed client of a collegium server.

::

    async with Client("http://127.0.0.1:8420", key="clg_...") as collegium:
        run = await collegium.submit("Which clauses changed?", files=["contracts/"])
        async for event in run.events():
            print(event.type)
        report = await run.result()
"""

from collegium.client.client import Client, RemoteRun

__all__ = ["Client", "RemoteRun"]
