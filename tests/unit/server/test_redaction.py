"""Secrets: two hundred planted ones come out nowhere, tampering is found, and what is no secret stays as it is."""

from __future__ import annotations

import base64
import json
import logging
import sys
from pathlib import Path

import pytest

from collegium.config import Settings
from collegium.config.secrets import secrets_of
from collegium.domain.redaction import MASK, Redactor, masked
from collegium.telemetry import RedactedFormatter
from tests.security import planted as planting
from tests.security.planted import Planted, drive, plant
from tests.security.tampering import on_postgres, on_sqlite


async def test_two_hundred_planted_secrets_come_out_nowhere(tmp_path: Path) -> None:
    found = await drive(tmp_path)
    assert found.planted == 200
    assert set(found.leaks) == {"logs", "errors", "http", "audit log", "prompts", "events", "exports"}
    assert {name: leaks for name, leaks in found.leaks.items() if leaks} == {}
    assert min(found.sizes.values()) > 10_000


async def test_without_what_the_settings_know_they_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(folder: Path) -> Planted:
        return (await plant(folder))._replace(redactor=Redactor(["nothing-of-it"]))

    monkeypatch.setattr(planting, "plant", blind)
    found = await drive(tmp_path)
    for channel in ("logs", "errors", "http", "prompts", "events", "exports"):
        assert found.leaks[channel], channel


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF0123456789abcDEF", "sk-ant-api03-abcdefghij0123456789", "AIzaSyA0123456789abcdefghijklmnopqrstu",
        "ghp_0123456789abcdefghijABCDEFGHIJ456789", "github_pat_11ABCDEFG0123456789abcdef", "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdefghijkl", "hf_abcdefghijklmnopqrstuvwxyz", "glpat-abcdefghij0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "clg_live_abc123_0123456789abcdefghij",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234\nabcd==\n-----END RSA PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_known_shapes_are_masked_wherever_they_stand(secret: str) -> None:
    for text in (secret, f"key {secret}, and more", f'{{"a": "{secret}"}}', f"(see {secret})", f"x={secret}&y=1"):
        assert secret not in masked(text), text
        assert MASK in masked(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://me:hunter2@db:5432/x refused", "hunter2"),
        ("redis://:p4ssw0rd!@cache/0", "p4ssw0rd!"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ('{"authorization": "Bearer abc.def-123456789"}', "abc.def-123456789"),
        ("Set-Cookie: sid=abcdef123; HttpOnly", "abcdef123"),
        ("DB_PASSWORD=Tr0ub4dor&3xyz", "Tr0ub4dor&3xyz"),
        ('"api_key": "A8f93hf83hfKK2"', "A8f93hf83hfKK2"),
        ("the secret is 9f8Kd03jJs82", "9f8Kd03jJs82"),
    ],
)
def test_what_stands_where_secrets_stand_is_masked(text: str, secret: str) -> None:
    assert secret not in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "a token budget of 4,096 tokens: tokens=4096", "run_01934567890abcdef01934567890abcdef00 has 12 events",
        "secret: documentation", "the key of the chain is missing: see `collegium doctor`",
        "idempotency key 'order-17' was used for another goal", "risk-assessment-of-the-whole-house",
        "https://example.org/a:b@c is no password", "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6",
        "token_count: 12345678", "session: /var/lib/collegium/session", "basic documentation of the house",
        "password = required", "Ask-Me-Anything, sk-8", "",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_a_known_secret_is_found_in_every_form() -> None:
    secret = 'p"w/ö+1234567'
    redactor = Redactor([secret, "short"])
    forms = [secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex(), "p%22w%2F%C3%B6%2B1234567"]
    for form in forms:
        assert redactor.known(f"<{form}>").startswith(f"<{MASK}"), form
    assert secret not in json.loads(redactor.known(json.dumps({"a": secret}, ensure_ascii=False)))["a"]
    assert redactor.value({secret: [secret, 7, None, {"k": (secret,)}]}) == {MASK: [MASK, 7, None, {"k": [MASK]}]}
    assert redactor.known("a short word") == "a short word"


def test_what_is_masked_stays_masked_also_in_long_text() -> None:
    text = "postgres://a:b1234567@h Authorization: Bearer abcdef123456 password=Xy12345678"
    assert masked(masked(text)) == masked(text)
    # Were any pattern quadratic, each of these would take minutes.
    for filler in ("password=", "-----BEGIN PRIVATE KEY-----", "eyJa.", "a://b:", "cookie", "sk-", "bearer "):
        hostile = filler * (300_000 // len(filler))
        assert masked(f"{hostile} AKIAIOSFODNN7EXAMPLE").endswith(MASK), filler


def test_settings_and_environment_tell_what_is_secret(tmp_path: Path) -> None:
    (tmp_path / "chain.key").write_text("the-chain-key-0123456789")
    (tmp_path / "provider").write_text("# mine\nkey-one-12345,key-two-12345\n")
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "store": "postgresql://u:p%40ss1234@h/db",
            "journal": {"chain_key_file": str(tmp_path / "chain.key")},
        }
    )
    found = secrets_of(
        settings,
        {
            "OPENAI_API_KEY_FILE": str(tmp_path / "provider"),
            "MY_TOKEN": "tok-12345678",
            "PATH": "/bin",
            "KEYBOARD": "us",
        },
    )
    for secret in (
        "the-chain-key-0123456789",
        "p%40ss1234",
        "p@ss1234",
        "key-one-12345",
        "key-two-12345",
        "tok-12345678",
    ):
        assert secret in found
    assert not {"/bin", "us", "u"} & set(found)


def test_a_log_line_leaves_nothing_for_other_handlers() -> None:
    formatter = RedactedFormatter("%(message)s", Redactor(["hunter2hunter2"]))
    try:
        raise ValueError("hunter2hunter2")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "said %s", ("hunter2hunter2",), sys.exc_info())
    text = formatter.format(record)
    assert ("hunter2" in text, "Traceback" in text, record.exc_text) == (False, True, None)


async def test_tampering_with_runs_and_log_is_found_at_the_first_bad_row(tmp_path: Path) -> None:
    trials = await on_sqlite(tmp_path, 140)
    assert (trials.made, trials.found, trials.named, trials.missed) == (140, 140, 140, [])


async def test_tampering_is_found_on_postgresql_too(postgres_url: str) -> None:
    trials = await on_postgres(postgres_url, 28)
    assert (trials.made, trials.found, trials.named, trials.missed) == (28, 28, 28, [])
