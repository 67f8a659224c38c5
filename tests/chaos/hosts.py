"""Hosts of a trial: network namespaces, each joined to this machine by a cable of its own that can be pulled out."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

from tests.chaos.processes import START_S, Place

_numbers = count(os.getpid() % 200 * 16)


class NoHosts(Exception):
    """Namespaces cannot be made here: no root, or no ``ip``."""


class Host:
    """A namespace with its own loopback; ``gateway`` is this machine as seen from there."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"clg{number}"
        self._cable = f"clgv{number}"
        net = f"10.{200 + number // 4096}.{number // 16 % 256}.{number % 16 * 16}"
        first, _, last = net.rpartition(".")
        self.gateway, self._address = f"{first}.{int(last) + 1}", f"{first}.{int(last) + 2}"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NoHosts("network namespaces need root and the package iproute2")
        for command in (
            f"netns add {self.name}",
            f"link add {self._cable} type veth peer name eth0 netns {self.name}",
            f"addr add {self.gateway}/28 dev {self._cable}",
            f"link set {self._cable} up",
            f"-n {self.name} link set lo up",
            f"-n {self.name} addr add {self._address}/28 dev eth0",
            f"-n {self.name} link set eth0 up",
        ):
            try:
                _ip(command)
            except subprocess.CalledProcessError as error:
                self.remove()
                raise NoHosts(f"ip {command}: {error.stderr}") from error

    def cut(self) -> None:
        """Pulls the cable out: what is sent is lost, and nobody is told."""
        _ip(f"link set {self._cable} down")

    def join(self) -> None:
        """Puts the cable in again."""
        _ip(f"link set {self._cable} up")

    def run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A process on this host, ended when its standard input is closed."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def remove(self) -> None:
        """Takes the namespace away, with its cable."""
        for command in (f"link del {self._cable}", f"netns del {self.name}"):
            with suppress(subprocess.CalledProcessError):
                _ip(command)


class HostWorker:
    """A worker process on a host, with the face of ``processes.Child``."""

    def __init__(self, host: Host, place: Place) -> None:
        self.host = host
        here = replace(
            place,
            host=host.name,
            postgres=(place.postgres or "").replace("127.0.0.1", host.gateway),
            redis=(place.redis or "").replace("127.0.0.1", host.gateway),
        )
        (place.folder / f"data-{host.name}").mkdir(exist_ok=True)
        self._process = host.run("tests.chaos.host_worker", json.dumps(asdict(here), default=str))
        self.name = ""

    async def told(self) -> str:
        """Its worker's id, once it works."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise RuntimeError(f"the worker on {self.host.name} ended with {self._process.wait()} before it was ready")
        return line.decode().strip()

    @property
    def is_alive(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Signals this process and no other (``ip`` has become the worker by ``exec``)."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Ends it without a word."""
        self._process.kill()
        self._end()

    async def terminate(self, timeout_s: float = 30.0) -> int | None:
        """Asks it to end and waits; its exit code."""
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        finally:
            self._end()

    def _end(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class HostModel:
    """The model of the trials on a host's own loopback: the same URL on every host."""

    def __init__(self, host: Host, port: int, log: Path, slow_s: tuple[float, float]) -> None:
        self._process = host.run("tests.chaos.host_model", str(port), str(log), *map(str, slow_s))
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"the model on {host.name} did not start")

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)
