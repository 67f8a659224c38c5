"""The proxy before the model server: each fault as a client meets it."""

from __future__ import annotations

import time

import aiohttp
import pytest

from collegium.testing.fault_proxy import Fault, FaultProxy
from collegium.testing.loopback import HttpAnswer, LoopbackServer

BODY = b"x" * 6_000


async def post(fault: Fault, timeout_s: float = 5.0) -> bytes:
    async with LoopbackServer(lambda _: HttpAnswer(body=BODY)) as server:
        port = int(server.url.rpartition(":")[2])
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with FaultProxy(port, lambda: fault) as proxy, aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.post(proxy.url) as answer:
                    return await answer.read()
            finally:
                assert proxy.counts == {fault.kind: 1}


async def test_without_a_fault_everything_passes() -> None:
    assert await post(Fault()) == BODY


@pytest.mark.parametrize("kind", ["refuse", "reset", "cut", "half_close"])
async def test_a_connection_that_is_broken_is_an_error_to_the_client(kind: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await post(Fault(kind=kind, after_bytes=2_000))  # type: ignore[arg-type]


async def test_a_black_hole_answers_nothing() -> None:
    with pytest.raises(TimeoutError):
        await post(Fault(kind="blackhole"), timeout_s=0.2)


@pytest.mark.parametrize("fault", [Fault(kind="late", delay_s=0.1), Fault(kind="slow", bytes_per_s=30_000.0)])
async def test_what_is_slow_arrives_whole(fault: Fault) -> None:
    began = time.monotonic()
    assert await post(fault) == BODY
    assert time.monotonic() - began >= 0.2
