"""Local models: a GGUF file served by a process of its own, reached by the lean adapter.

The process (``local_server.py``) is shared by all processes of one user on one machine: a crash in native code costs a
call, never a worker; memory is paid once; the prompt cache is everybody's.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from collegium.adapters.models.file_lock import is_locked, locked
from collegium.adapters.models.gguf import GgufHeader, read_header
from collegium.adapters.models.local_server import ServerSpec, ServerState, read_state
from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import MissingExtra, ModelError, ModelUnavailable
from collegium.ports import Clock, Model

_POLL_S = 0.02
_LOG_LINES = 12
_DYING_POLLS = 50
_OUT_OF_MEMORY = ("failed to allocate", "out of memory", "bad_alloc", "unable to allocate")


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How local models are run.

    Attributes:
        context_tokens: Per conversation; None for 4,096 below a billion weights, else 8,192 (never more than the
            model was trained for). Memory grows with it, times ``parallel``.
        parallel: Calls answered at the same time; more wait in line.
        threads: None for the cores this process may use.
        idle_s: The server ends when it was not asked for so long.
        start_timeout_s: A model that is not ready by then is given up.
    """

    context_tokens: int | None = None
    parallel: int = 2
    threads: int | None = None
    idle_s: float = 300.0
    start_timeout_s: float = 120.0


def require_engine(model: str) -> None:
    """Raises ``MissingExtra`` where the engine for local models is not installed: before anything is fetched for it."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra(f"running {model} needs the extra [local]: pip install 'collegium[local]'", extra="local")


class LocalServer:
    """One model's server process: found, started and started again.

    Args:
        path: The GGUF file.
        state_dir: Where the state, lock and log files of servers lie.
        settings: How it is run.
        clock: Waits.

    Raises:
        MissingExtra: xllamacpp is not installed.
        UnknownName: there is no such file.
        UnreadableInput: it is not a GGUF file.
    """

    def __init__(self, path: Path, state_dir: Path, *, settings: LocalSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.header: GgufHeader = read_header(path)
        require_engine(path.name)
        self.context_tokens = _context_tokens(settings, self.header)
        self.spec = self._spec(path.resolve(), state_dir)
        self._child: int | None = None

    async def ensure(self) -> ServerState:
        """How to reach the server, which runs when this returns.

        Raises:
            ModelUnavailable: it did not start; the text holds the last lines of its log.
        """
        self._reap()
        if (state := self._running()) is not None:
            return state
        self.spec.file("").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        timeout_s = self._settings.start_timeout_s
        async with locked(
            self.spec.file(".lock"), clock=self._clock, timeout_s=timeout_s, why=f"starting {self.spec.alias}"
        ):
            if (state := self._running()) is not None:
                return state
            if not is_locked(self.spec.file(".alive")):
                self._start()
            return await self._ready(self._clock.monotonic() + timeout_s)

    def stop(self) -> None:
        """Tells the server to end, for every process that uses it; ``is_alive`` says when it has."""
        self.spec.file(".json").unlink(missing_ok=True)

    @property
    def is_alive(self) -> bool:
        """Whether the server's process lives."""
        self._reap()
        return is_locked(self.spec.file(".alive"))

    async def pause(self) -> None:
        """Waits a moment, for what another process does."""
        await self._clock.sleep(_POLL_S)

    def last_words(self) -> str:
        """The last lines of the server's log."""
        try:
            lines = self.spec.file(".log").read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-_LOG_LINES:])

    def _spec(self, path: Path, state_dir: Path) -> ServerSpec:
        threads = self._settings.threads or _cores()
        stat = path.stat()
        identity = (
            str(path), stat.st_size, stat.st_mtime_ns, self.context_tokens, self._settings.parallel, threads,
            self._settings.idle_s, importlib.metadata.version("xllamacpp"),
        )  # fmt: skip
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        return ServerSpec(
            model=str(path),
            alias=path.stem,
            base=str(state_dir.resolve() / f"{path.stem[:40]}-{digest}"),
            context_tokens=self.context_tokens,
            parallel=self._settings.parallel,
            threads=threads,
            idle_s=self._settings.idle_s,
        )

    def _running(self) -> ServerState | None:
        state = read_state(self.spec.file(".json"))
        return state if state is not None and is_locked(self.spec.file(".alive")) else None

    def _start(self) -> None:
        self.spec.file(".json").unlink(missing_ok=True)
        log = os.open(self.spec.file(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        package_root = str(Path(__file__).parents[3])
        environment = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN"))}
        # Threads that wait must not spin: on a machine that is busy with anything else spinning makes two threads ten
        # times slower than one.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH", ""))))
        spec = msgspec.json.encode(self.spec).decode()
        command = [sys.executable, "-m", "collegium.adapters.models.local_server", spec]
        try:
            # Not through `subprocess`: the server outlives this process, and nothing here may kill or wait for it.
            self._child = os.posix_spawn(
                sys.executable,
                command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)

    async def _ready(self, deadline: float) -> ServerState:
        while (state := self._running()) is None:
            if self._child is not None and (code := self._reap()) is not None:
                raise ModelUnavailable(self._why_dead(code), model=self.spec.model, log=str(self.spec.file(".log")))
            if self._clock.monotonic() >= deadline:
                self._kill()
                raise ModelUnavailable(
                    f"{self.spec.alias} was not ready after {self._settings.start_timeout_s:g} s; "
                    f"the log {self.spec.file('.log')} ends:\n{self.last_words()}",
                    model=self.spec.model,
                )
            await self._clock.sleep(_POLL_S)
        return state

    def _reap(self) -> int | None:
        """The exit code of a child of this process that has ended, or None."""
        if self._child is None:
            return None
        try:
            pid, status = os.waitpid(self._child, os.WNOHANG)
        except ChildProcessError:
            self._child = None
            return None
        if pid == 0:
            return None
        self._child = None
        return os.waitstatus_to_exitcode(status)

    def _kill(self) -> None:
        if self._child is not None:
            os.kill(self._child, 9)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = None

    def _why_dead(self, code: int) -> str:
        words = self.last_words()
        if code == -9 or any(sign in words.lower() for sign in _OUT_OF_MEMORY):
            why = "memory ran out: use a smaller model, or a smaller context or fewer parallel calls"
        else:
            why = f"its process ended with {code}"
        return f"{self.spec.alias} could not be started: {why}. The log {self.spec.file('.log')} ends:\n{words}"


class LocalModel:
    """A ``Model`` served by a ``LocalServer``, which is started again once when it dies under a call.

    Args:
        server: The server.
        profile: What the model can do.
        connect: Makes the lean adapter for a server that runs.
    """

    def __init__(self, server: LocalServer, profile: ModelProfile, *, connect: Callable[[ServerState], Model]) -> None:
        self._server = server
        self._profile = profile
        self._connect = connect
        self._state: ServerState | None = None
        self._inner: Model | None = None

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return self._profile

    @property
    def is_loaded(self) -> bool:
        """Whether its server was reached from here and still runs."""
        return self._state is not None and self._server.is_alive

    async def start(self) -> None:
        """Starts the server, or finds it running. Raises ``ModelUnavailable``."""
        await self._model()

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        model = await self._model()
        try:
            return await model.complete(request)
        except ModelUnavailable as error:
            again = await self._restarted(error)
        return await again.complete(request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        is_begun = False
        try:
            async with closing((await self._model()).stream(request)) as items:
                async for item in items:
                    is_begun = True
                    yield item
                return
        except ModelUnavailable as error:
            # What a viewer has seen cannot be taken back: the caller decides whether to ask again.
            if is_begun:
                raise
            again = await self._restarted(error)
        async with closing(again.stream(request)) as items:
            async for item in items:
                yield item

    async def aclose(self) -> None:
        """Leaves the server to the other processes; it ends by itself when idle."""

    async def _model(self) -> Model:
        state = await self._server.ensure()
        if self._inner is None or state != self._state:
            self._state, self._inner = state, self._connect(state)
        return self._inner

    async def _restarted(self, error: ModelError) -> Model:
        """The model on a new server, where the old one is dead; else raises ``error``."""
        # A dying process breaks its connections a moment before the system releases its lock.
        for _ in range(_DYING_POLLS):
            if not self._server.is_alive or read_state(self._server.spec.file(".json")) != self._state:
                return await self._model()
            await self._server.pause()
        raise error


def _context_tokens(settings: LocalSettings, header: GgufHeader) -> int:
    wanted = settings.context_tokens or (4_096 if header.parameters < 1_000_000_000 else 8_192)
    return min(wanted, header.context_tokens)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
