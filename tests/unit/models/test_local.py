"""The server of a local model: shared, started again, ended when idle, and never left behind."""

import asyncio
import os
import shutil
import signal
import stat
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.connections import Connections
from collegium.adapters.models.dialects import LLAMA_CPP
from collegium.adapters.models.gguf import read_header
from collegium.adapters.models.local import LocalModel, LocalServer, LocalSettings
from collegium.adapters.models.local_server import ServerState, read_state
from collegium.adapters.models.openai_compatible import OpenAICompatibleModel
from collegium.adapters.models.profiles import local_profile
from collegium.domain import errors
from collegium.domain.chat import Delta
from collegium.testing.conformance.model import ask, whole
from tests.unit.models.local_model import default_model

CLOCK = SystemClock()
needs_model = pytest.mark.network


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Waits for the condition; fails after ``timeout_s``."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.02)


class Here:
    """Servers with their state in one folder, told to end after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[LocalServer] = []
        self.connections = Connections()

    async def server(self, path: Path | None = None, **settings: object) -> LocalServer:
        values = {"context_tokens": 512, "parallel": 1, "idle_s": 60.0, **settings}
        options = LocalSettings(**values)  # type: ignore[arg-type]
        server = LocalServer(path or await default_model(), self.folder, settings=options, clock=CLOCK)
        self.servers.append(server)
        return server

    def model(self, server: LocalServer) -> LocalModel:
        profile = local_profile("local:test", server.header, server.context_tokens)

        def connect(state: ServerState) -> OpenAICompatibleModel:
            return OpenAICompatibleModel(
                server.spec.alias, state.url, key=state.key, profile=profile,
                connections=self.connections, clock=CLOCK, dialect=LLAMA_CPP,
            )  # fmt: skip

        return LocalModel(server, profile, connect=connect)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    here = Here(tmp_path / "servers")
    yield here
    await here.connections.aclose()
    for server in here.servers:
        server.stop()
    for server in here.servers:
        await until(lambda server=server: not server.is_alive)  # type: ignore[misc]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text() if sys.platform == "linux" else ""


@needs_model
async def test_two_processes_share_one_server(here: Here) -> None:
    first, second = await here.server(), await here.server()
    states = await asyncio.gather(first.ensure(), second.ensure(), first.ensure())
    assert len({state.pid for state in states}) == 1
    file = first.spec.file(".json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    key = states[0].key
    assert key not in command_line(states[0].pid)
    assert key not in first.last_words()


@needs_model
async def test_only_the_key_opens_it(here: Here) -> None:
    server = await here.server()
    state = await server.ensure()
    stranger = OpenAICompatibleModel(
        "any", state.url, key="wrong", profile=here.model(server).profile, connections=here.connections, clock=CLOCK
    )
    with pytest.raises(errors.ModelAuthError):
        await stranger.complete(ask())


@needs_model
async def test_a_server_that_dies_is_started_again(here: Here) -> None:
    server = await here.server()
    model = here.model(server)
    assert (await model.complete(ask(max_output_tokens=4))).text
    first = await server.ensure()
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: not server.is_alive)
    assert (await whole(model, ask(max_output_tokens=4))).text
    assert (await server.ensure()).pid != first.pid


@needs_model
async def test_a_server_that_dies_under_a_call_is_started_again_once(here: Here) -> None:
    server = await here.server()
    model = here.model(server)
    first = await server.ensure()
    await model.start()
    call = asyncio.ensure_future(model.complete(ask("Count to a thousand.", max_output_tokens=300)))
    done, _ = await asyncio.wait({call}, timeout=0.3)
    assert not done, "the model answered 300 tokens in 0.3 s"
    os.kill(first.pid, signal.SIGKILL)
    assert (await call).text


@needs_model
async def test_a_stream_that_was_seen_is_not_begun_again(here: Here) -> None:
    server = await here.server()
    model = here.model(server)
    items = model.stream(ask("Count to a thousand.", max_output_tokens=300))
    assert isinstance(await anext(items), Delta)
    os.kill((await server.ensure()).pid, signal.SIGKILL)
    with pytest.raises(errors.ModelError) as caught:
        async for _ in items:
            pass
    assert caught.value.retryable


@needs_model
async def test_it_ends_when_idle_and_comes_back(here: Here) -> None:
    server = await here.server(idle_s=0.8)
    model = here.model(server)
    await model.start()
    first = await server.ensure()
    await until(lambda: not server.is_alive)
    assert not server.spec.file(".json").exists()
    assert (await model.complete(ask(max_output_tokens=2))).text
    assert (await server.ensure()).pid != first.pid


@needs_model
async def test_it_is_not_idle_while_it_works(here: Here) -> None:
    server = await here.server(idle_s=0.5)
    model = here.model(server)
    reply = await model.complete(ask("Count to a thousand.", max_output_tokens=200))
    assert reply.usage.output_tokens > 2


@needs_model
async def test_it_ends_when_its_folder_vanishes(here: Here) -> None:
    server = await here.server()
    state = await server.ensure()
    shutil.rmtree(here.folder)

    def is_gone() -> bool:
        server.is_alive  # noqa: B018 - reaps the child
        try:
            os.kill(state.pid, 0)
        except ProcessLookupError:
            return True
        return False

    await until(is_gone)


@needs_model
async def test_a_broken_model_says_what_its_log_says(here: Here, tmp_path: Path) -> None:
    whole_file = await default_model()
    broken = tmp_path / "broken.gguf"
    with whole_file.open("rb") as file:
        broken.write_bytes(file.read(20_000_000))
    server = await here.server(broken)
    with pytest.raises(
        errors.ModelUnavailable, match=r"could not be started: its process ended with 1(.|\n)*failed to load"
    ):
        await server.ensure()
    assert read_state(server.spec.file(".json")) is None


@needs_model
async def test_a_server_that_is_not_ready_in_time(here: Here) -> None:
    server = await here.server(start_timeout_s=0.001)
    with pytest.raises(errors.ModelUnavailable, match=r"not ready after 0\.001 s"):
        await server.ensure()
    await until(lambda: not server.is_alive)


@needs_model
async def test_the_header_of_the_default_model() -> None:
    header = read_header(await default_model())
    assert header.architecture == "llama"
    assert header.parameters == 134_515_008
    assert header.context_tokens == 8_192
    assert header.has_chat_template


def gguf(*pairs: bytes, tensors: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, len(pairs)) + b"".join(pairs) + tensors


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_a_header(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    pairs = (
        text("general.architecture") + struct.pack("<I", 8) + text("qwen2"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 1.0, 2.0),
        text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 0, 3) + b"\x01\x02\x03",
        text("qwen2.context_length") + struct.pack("<II", 4, 32_768),
        text("tokenizer.chat_template") + struct.pack("<I", 8) + text("{% if tools %}"),
    )
    tensor = text("w") + struct.pack("<IQQIQ", 2, 10, 20, 0, 0)
    path.write_bytes(gguf(*pairs, tensors=tensor * 2, count=2))
    header = read_header(path)
    assert (header.architecture, header.parameters, header.context_tokens) == ("qwen2", 400, 32_768)
    assert header.has_tools


@pytest.mark.parametrize("size", [0, 3, 8, 30])
def test_a_header_that_is_cut(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(text("general.architecture") + struct.pack("<I", 8) + text("llama"))[:size])
    with pytest.raises(errors.UnreadableInput, match="GGUF"):
        read_header(path)
