"""A goal that comes every morning: added, looked at, paused. `collegium worker` fires it.

Run it with any model: COLLEGIUM_MODEL=openai:NAME .venv/bin/python examples/schedule.py
"""

import asyncio

from collegium import open_collegium


async def main() -> None:
    """Adds a schedule, says when it comes, pauses it and removes it again."""
    async with open_collegium() as c:
        files = ["examples/handbook/docs/incidents"]
        # snippet: schedule
        schedule = await c.schedules.add("30 7 * * MON-FRI", "What is new?", files=files, tz="Europe/Berlin")
        print(schedule.next_at)
        await c.schedules.pause(schedule.id, reason="holidays")
        # end snippet
        print((await c.schedules.get(schedule.id)).paused)
        await c.schedules.remove(schedule.id)


if __name__ == "__main__":
    asyncio.run(main())
