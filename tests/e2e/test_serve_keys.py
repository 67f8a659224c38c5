"""``collegium serve`` and the keys: open until there is one, then closed; beyond this machine never open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder to serve from."""
    made = Place(tmp_path, {"reply": "Ann owns it."})
    yield made
    made.close()


def made(place: Place, *argv: str) -> str:
    """A key, by the command."""
    done = place.run("keys", "create", *argv, "--json")
    assert done.returncode == 0, done.stderr
    key: str = json.loads(done.stdout)["key"]
    return key


def test_the_first_key_closes_the_door_while_it_serves(place: Place) -> None:
    serve = place.serve("--workers", "0")
    serve.until_ready()
    assert serve.get("/v1/runs").status == 200
    serve.until(lambda: "open to everybody on this machine" in serve.log)
    key = made(place, "--role", "viewer")
    serve.until(lambda: serve.get("/v1/runs").status == 401)
    assert serve.get("/v1/runs", Authorization=f"Bearer {key}").status == 200
    assert serve.get("/v1/keys", Authorization=f"Bearer {key}").status == 403
    assert serve.get("/readyz").status == 200
    assert place.run("keys", "revoke", key).returncode == 0
    serve.until(lambda: serve.get("/v1/runs", Authorization=f"Bearer {key}").status == 401)
    serve.send()
    assert serve.ended() == 0
    assert key not in serve.log
    assert key.rpartition("_")[2] not in serve.log


def test_beyond_this_machine_it_needs_a_key(place: Place) -> None:
    refused = place.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "collegium keys create --role admin" in refused.stderr
    key = made(place, "--role", "viewer")
    serve = place.serve("--workers", "0", "--host", "0.0.0.0")
    serve.url = serve.url.replace("0.0.0.0", "127.0.0.1")
    serve.until_ready()
    assert "open to everybody" not in serve.log
    assert serve.get("/v1/runs", Host="collegium.example.com").status == 401
    assert serve.get("/v1/runs", Authorization=f"Bearer {key}").status == 200
    serve.send()
    assert serve.ended() == 0


def test_keys_may_be_asked_for_before_there_is_one(place: Place) -> None:
    serve = place.serve("--workers", "0", "--host", "0.0.0.0", COLLEGIUM_AUTH__REQUIRED="true")
    serve.url = serve.url.replace("0.0.0.0", "127.0.0.1")
    serve.until_ready()
    assert serve.get("/v1/runs").status == 401
    here = place.serve("--workers", "0", COLLEGIUM_AUTH__REQUIRED="true")
    here.until_ready()
    assert here.get("/v1/runs").status == 401


def test_a_pepper_that_cannot_be_is_said(place: Place) -> None:
    (place.folder / "collegium.toml").write_text('[auth]\npepper_file = "none"\n')
    for command in (["serve", "--port", "0"], ["keys", "create", "--role", "admin"]):
        done = place.run(*command)
        assert done.returncode == 2, done.stderr
        assert "pepper" in done.stderr
        assert "Traceback" not in done.stderr
