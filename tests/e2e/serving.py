"""``collegium serve`` and ``worker`` as processes of a test: started, asked over HTTP, told to end, killed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

WAIT_S = 60.0
LEASE_S = 1.0


class Answer(NamedTuple):
    """What came over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON in it."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Process:
    """A process of ``collegium`` that stays."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as out:
            self._popen = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=out, text=True)
        self.pid = self._popen.pid
        self.url = ""

    def first(self) -> dict[str, Any]:
        """The JSON document that it prints once it stands."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, self.log
        found: dict[str, Any] = json.loads(line)
        self.url = found.get("url", "")
        return found

    @property
    def log(self) -> str:
        """What it and its workers have logged so far."""
        return self._log.read_text()

    def workers(self) -> dict[str, int]:
        """The process ids of its workers that have logged something, the newest of each name."""
        return {name: int(pid) for name, pid in re.findall(r"(worker-\d+)\[(\d+)\]", self.log)}

    def get(self, path: str, **headers: str) -> Answer:
        """What it answers."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, found, reply.read())
        finally:
            connection.close()

    def until_ready(self) -> None:
        """Returns once ``/readyz`` answers 200."""
        self.until(lambda: self.get("/readyz").status == 200)

    def until(self, condition: Callable[[], object]) -> None:
        """Returns once ``condition`` holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{self.log}\n{self.url and self.get('/readyz').body!r}"
            time.sleep(0.02)

    def metric(self, name: str) -> float:
        """The value of a line of ``/metrics``; 0 where there is none."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signals it alone."""
        self._popen.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self._popen.wait(WAIT_S)

    def close(self) -> None:
        """Kills what is left of it, and of workers that stand still."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()


class Place:
    """A folder with a script, a data folder, and the processes over it."""

    def __init__(self, folder: Path, reply: dict[str, Any]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.model = f"scripted:{folder / 'script.json'}"
        self.write(reply)
        self.environment = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("COLLEGIUM_") and not k.endswith(("_API_KEY", "_API_KEY_FILE"))
        } | {
            "COLLEGIUM_DATA_DIR": str(self.data),
            "COLLEGIUM_MODEL": self.model,
            "COLLEGIUM_WORKER__LEASE_S": str(LEASE_S),
            "COLLEGIUM_WORKER__GRACE_S": "1",
            "HOME": str(folder),
        }
        self.processes: list[Process] = []

    def write(self, reply: dict[str, Any]) -> None:
        """What the model answers from the next process on."""
        (self.folder / "script.json").write_text(json.dumps({"ordered": False, "step": [{"times": "any", **reply}]}))

    def start(self, *argv: str, **environment: str) -> Process:
        """A process that stays, e.g. ``serve --workers 2``."""
        command = [sys.executable, "-m", "collegium.cli", *argv, "--json"]
        log = self.folder / f"process-{len(self.processes)}.log"
        process = Process(command, cwd=self.folder, env=self.environment | environment, log=log)
        self.processes.append(process)
        return process

    def serve(self, *argv: str, **environment: str) -> Process:
        """``collegium serve`` on a free port, listening."""
        process = self.start("serve", "--port", "0", *argv, **environment)
        process.first()
        return process

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command that ends."""
        return subprocess.run(
            [sys.executable, "-m", "collegium.cli", *argv],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def close(self) -> None:
        """Ends what was started."""
        for process in self.processes:
            process.close()


def is_there(pid: int) -> bool:
    """Whether the process lives, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
