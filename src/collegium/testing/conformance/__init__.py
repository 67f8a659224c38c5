"""Behavioural suites per port: subclass one, give it your adapter, and pytest tells whether it keeps the port's word.

::

    class TestMyJournal(JournalConformance):
        @asynccontextmanager
        async def open(self):
            yield MyJournal(...)

The suites need pytest and pytest-asyncio. ``open_pair`` is for stores that several processes share.
"""
