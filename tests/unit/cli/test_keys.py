"""``collegium keys``: made once, shown once, and the file they are kept with."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.pepper import read_or_make_pepper
from collegium.config import Settings, load_settings
from collegium.domain.api_key import parse
from collegium.domain.errors import UsageError
from collegium.wiring.auth import pepper_of
from tests.unit.cli.calling import collegium, document


def test_a_key_is_made_before_anything_is_served(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = collegium(capsys, "keys", "create", "--role", "admin", "--name", "ada")
    assert code == 0
    shown = parse(out.strip())
    assert shown is not None, "the key alone is on standard output, so that it can be piped"
    assert shown.env == "live"
    assert "this once" in err
    assert shown.text not in err
    (listed,) = document(capsys, "keys", "ls")["items"]
    assert (listed["key_id"], listed["status"], listed["roles"], listed["tenant"]) == (
        shown.id, "holds", ["admin"], "default",
    )  # fmt: skip
    secret = shown.text.rpartition("_")[2]
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]


def test_the_pepper_is_readable_by_its_owner_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, "keys", "create", "--role", "viewer")
    (pepper,) = project.parent.rglob("pepper")
    assert stat.S_IMODE(pepper.stat().st_mode) == 0o600
    before = pepper.read_bytes()
    document(capsys, "keys", "create", "--role", "viewer")
    assert pepper.read_bytes() == before
    assert [f.name for f in pepper.parent.iterdir() if "pepper" in f.name] == ["pepper"]


def test_keys_are_rotated_and_revoked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, "keys", "create", "--scope", "runs:read", "--tenant", "acme", "--expires-days", "30")
    rotated = document(capsys, "keys", "rotate", made["key_id"], "--grace-s", "60")
    assert rotated["key"] != made["key"]
    assert (rotated["key_id"], rotated["tenant"], rotated["expires_at"]) == (
        made["key_id"], "acme", made["expires_at"],
    )  # fmt: skip
    assert rotated["old_until"] is not None
    assert document(capsys, "keys", "revoke", made["key"])["status"] == "revoked", "a whole key names its own id"
    code, _, err = collegium(capsys, "keys", "rotate", made["key_id"])
    assert (code, made["key"] in err) == (2, False)
    assert [k["status"] for k in document(capsys, "keys", "ls", "--tenant", "acme")["items"]] == ["revoked"]
    assert document(capsys, "keys", "ls", "--tenant", "other")["items"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create"], "could do nothing"),
        (["create", "--role", "king"], "no role 'king'"),
        (["create", "--scope", "runs:burn"], "no scope 'runs:burn'"),
        (["create", "--role", "admin", "--tenant", "~keys"], "cannot be a tenant"),
        (["create", "--role", "admin", "--env", "LIVE_1"], "cannot stand in a key"),
        (["create", "--role", "admin", "--name", "a\nb"], "printable"),
        (["create", "--role", "admin", "--expires-days", "0"], "0"),
        (["revoke", "nothing"], "no key nothing: `collegium keys ls`"),
        (["rotate", "aaaaaaaaaaaa"], "no key aaaaaaaaaaaa"),
    ],
)
def test_what_cannot_be(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = collegium(capsys, "keys", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_the_pepper_comes_from_three_places(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 40 + "\n")
    own = Settings(data_dir=tmp_path / "data")
    assert pepper_of(own, {}) == pepper_of(own, {}) == read_or_make_pepper(tmp_path / "data" / "pepper")
    assert pepper_of(own, {"COLLEGIUM_PEPPER": "e" * 32}) == b"e" * 32
    named = load_settings(None, {"HOME": str(tmp_path), "COLLEGIUM_AUTH__PEPPER_FILE": str(file)})
    assert pepper_of(named, {"COLLEGIUM_PEPPER": "e" * 32}) == b"f" * 40
    with pytest.raises(UsageError, match="31 bytes") as short:
        pepper_of(own, {"COLLEGIUM_PEPPER": "q" * 31})
    assert "q" not in short.value.message.replace("required", "")
    file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        pepper_of(named, {})


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"oidc": {"issuer": "http://idp.example.com", "audience": "a", "tenant": "t"}}, "https://"),
        ({"oidc": {"issuer": "https://idp.example.com", "tenant": "t"}}, "audience"),
        ({"oidc": {"issuer": "https://idp.example.com", "audience": "a"}}, "tenant_claim or tenant"),
        ({"oidc": {"audience": "a"}}, "issuer"),
        ({"oidc": {"algorithms": ["HS256"]}}, "RS256"),
        ({"oidc": {"algorithms": ["none"]}}, "RS256"),
        ({"public_url": "https://example.com/path"}, "without a path"),
        ({"public_url": "http://example.com"}, "https://HOST"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, auth: dict[str, Any], said: str) -> None:
    environ = {"HOME": str(tmp_path), "COLLEGIUM_AUTH": json.dumps(auth)}
    with pytest.raises(UsageError, match=said):
        load_settings(None, environ)


def test_a_key_is_limited_to_projects(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, "keys", "create", "--role", "viewer", "--project", "payroll", "--project", "handbook")
    (listed,) = document(capsys, "keys", "ls")["items"]
    assert listed["projects"] == ["handbook", "payroll"]
    _, shown, _ = collegium(capsys, "keys", "ls")
    assert "default/handbook,payroll" in shown
    code, _, said = collegium(capsys, "keys", "create", "--role", "viewer", "--project", "~runs")
    assert code == 2
    assert "cannot be a project" in said
