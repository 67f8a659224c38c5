"""What is written in one turn of the loop goes out in one piece, all of it and in order."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from collegium.server.cork import MOST_BYTES, CorkedTransport
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


class Kept(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@given(st.lists(st.lists(st.binary(max_size=40), max_size=6), max_size=6), st.booleans())
def test_all_of_it_in_order_and_one_piece_a_turn(turns: list[list[bytes]], ends_at_once: bool):
    async def play() -> None:
        kept = Kept()
        corked = CorkedTransport(kept, asyncio.get_running_loop())
        for n, turn in enumerate(turns):
            for piece in turn:
                corked.write(piece)
            if not (ends_at_once and n == len(turns) - 1):
                await asyncio.sleep(0)
        corked.close()
        assert b"".join(kept.pieces) == b"".join(piece for turn in turns for piece in turn)
        assert len(kept.pieces) <= len([turn for turn in turns if turn])
        assert kept.is_closed

    asyncio.run(play())


async def test_a_body_without_a_pause_does_not_gather():
    kept = Kept()
    corked = CorkedTransport(kept, asyncio.get_running_loop())
    for _ in range(100):
        corked.write(b"x" * 4096)
    assert sum(map(len, kept.pieces)) > 100 * 4096 - MOST_BYTES - 4096


async def test_nothing_is_written_to_what_is_closed():
    kept = Kept()
    corked = CorkedTransport(kept, asyncio.get_running_loop())
    corked.write(b"x")
    kept.close()
    await asyncio.sleep(0)
    assert kept.pieces == []


async def test_answers_come_whole_over_one_connection(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = (await http.post("/v1/runs", json={"goal": "Do both."})).json()["run_id"]
        await app.result(run)
        replies = await asyncio.gather(*(http.get(f"/v1/runs/{run}") for _ in range(50)))
        assert {reply.content for reply in replies} == {replies[0].content}
