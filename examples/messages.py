"""Programs that share topics: one consumes orders and answers, one asks, one watches.

Run it from the project's folder: .venv/bin/python examples/messages.py
"""

import asyncio
import time

from collegium import open_collegium
from collegium.adapters.clock import SystemClock
from collegium.bus.consumer import Consumer
from collegium.bus.feed import follow
from collegium.bus.requests import request
from collegium.domain.chat import Json
from collegium.domain.ids import Ids
from collegium.domain.message import Message
from collegium.ports import Bus


# snippet: consume
async def consume(bus: Bus) -> None:
    """Deals with orders until it is cancelled."""

    async def handle(message: Message) -> Json | None:
        return {"stored": message.body["order"]}  # the answer, should the message ask for one

    await Consumer(bus, ["orders.new"], "shop", handle, clock=SystemClock(), concurrency=8).run()


# end snippet


# snippet: ask
async def ask(bus: Bus, ids: Ids) -> Json:
    """Orders something and waits for the answer."""
    order = {"order": 19}
    reply = await request(bus, "orders.new", order, tenant="acme", timeout_s=30, clock=SystemClock(), ids=ids)
    return reply.body


# end snippet


# snippet: watch
async def watch(bus: Bus, after: int = 0) -> None:
    """Shows orders as they come."""
    async for message in follow(bus, "orders.new", after=after):
        print(message.seq, message.body, flush=True)


# end snippet


async def main() -> None:
    """Runs all three for one order."""
    async with open_collegium(scope="none", model="scripted:none.toml") as c:
        bus = c.stores.bus
        others = [asyncio.create_task(consume(bus)), asyncio.create_task(watch(bus))]
        print(await ask(bus, Ids(lambda: time.time_ns() // 1_000_000)))
        for task in others:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
