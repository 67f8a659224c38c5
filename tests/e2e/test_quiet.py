"""Nobody phones home: what serves and works connects to nothing beyond this machine, not even to ask for a name."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.serving import Place

GUARD = """
import json, os, sys
EVENTS = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
def seen(event, arguments):
    if event in EVENTS:
        address = arguments[0] if "socket.g" in event else arguments[-1]
        with open(os.environ["SEEN"], "a") as file:
            file.write(json.dumps([event, os.getpid(), repr(address)]) + "\\n")
sys.addaudithook(seen)
if os.environ.get("GUARD_TRIES") == "1":
    import socket
    try:
        socket.create_connection(("192.0.2.1", 9), 0.01)
    except OSError:
        pass
"""
HERE = ("127.0.0.1", "::1", "localhost", "None", "b'127.0.0.1'", "'127.0.0.1'", "''")


def is_here(address: str) -> bool:
    """Whether what was connected to or asked for is this machine: loopback, or a path of the file system."""
    return any(one in address for one in HERE[:3]) or address in HERE or "'/" in address or "\\x00" in address


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    made = Place(tmp_path, {"reply": "Ann owns it."})
    made.environment |= {"PYTHONPATH": str(tmp_path / "guard"), "SEEN": str(tmp_path / "seen.jsonl")}
    return made


def seen(place: Place) -> list[tuple[str, int, str]]:
    path = place.folder / "seen.jsonl"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def test_serving_and_working_connect_to_nothing_beyond_this_machine(place: Place) -> None:
    try:
        served = place.serve("--workers", "1")
        served.until_ready()
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=30)
        connection.request(
            "POST", "/v1/runs", json.dumps({"goal": "Who owns it?"}), {"content-type": "application/json"}
        )
        reply = connection.getresponse()
        run = json.loads(reply.read())["run_id"]
        assert reply.status == 202
        served.until(lambda: served.get(f"/v1/runs/{run}").document["status"] not in ("queued", "running"))
        for path in ("/openapi.json", "/v1/runs", "/metrics", "/v1/audit"):
            assert served.get(path).status == 200
        connection.close()
        served.send()
        assert served.ended() == 0
    finally:
        place.close()
    events = seen(place)
    assert [event for event in events if not is_here(event[2])] == []


def test_the_guard_sees_a_process_that_does(place: Place) -> None:
    place.environment["GUARD_TRIES"] = "1"
    place.run("version")
    assert any("192.0.2.1" in address and not is_here(address) for _, _, address in seen(place))
