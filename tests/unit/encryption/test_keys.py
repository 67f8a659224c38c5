"""Keys of keys from wherever they come, and the ring of data keys over a store."""

from __future__ import annotations

import asyncio
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.encryption.aes_gcm import AesKek
from collegium.adapters.encryption.kek_environment import kek_from_environment
from collegium.adapters.encryption.kek_file import kek_from_file
from collegium.adapters.encryption.keys import KeyRing
from collegium.adapters.encryption.kms import kek_from_plugin
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.encryption.rotation import rewrap, shred
from collegium.adapters.sqlite.key_shelf import SqliteKeyShelf
from collegium.adapters.sqlite.store import open_store
from collegium.domain.envelope import event_place, version_of
from collegium.domain.errors import Erased, NotFound, StoreCorrupt, UsageError

KEY = bytes(range(32))
WITHIN_S = 10.0
PLACE = event_place("acme", "run_a", 1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    open_store(path).close()
    return path


def ring_over(path: Path, key: bytes = KEY, **kwargs: Any) -> Any:
    return closing(KeyRing(AesKek(key, source="test"), SqliteKeyShelf(path), **kwargs))


@pytest.mark.parametrize("text", [KEY, KEY.hex().encode() + b"\n", b64encode(KEY) + b"\n"])
def test_a_key_is_read_from_a_file_in_any_of_three_forms(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "kek").write_bytes(text)
    assert kek_from_file(tmp_path / "kek").id == AesKek(KEY, source="").id


@pytest.mark.parametrize("text", [b"", b"short", b"x" * 31, b"x" * 33, b64encode(b"x" * 16), b"ab" * 31])
def test_a_key_of_another_length_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "kek").write_bytes(text)
    with pytest.raises(UsageError, match="no key of 256 bits") as refused:
        kek_from_file(tmp_path / "kek")
    assert text.decode() not in str(refused.value) or not text


def test_a_missing_key_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        kek_from_file(tmp_path / "none")
    with pytest.raises(UsageError, match=r"THE_KEK .* is not set"):
        kek_from_environment("THE_KEK", {"THE_KEK": " "})
    assert kek_from_environment("THE_KEK", {"THE_KEK": KEY.hex()}).id == AesKek(KEY, source="").id


def test_a_key_service_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    (tmp_path / "vault_for_test.py").write_text(
        "class Vault:\n"
        "    def __init__(self, region): self.id = 'vault:' + region\n"
        "    def wrap(self, key, context): return context + key[::-1]\n"
        "    def unwrap(self, wrapped, context): return wrapped[len(context):][::-1]\n"
        "def nothing(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    vault = kek_from_plugin("vault_for_test:Vault", {"region": "eu"})
    with closing(KeyRing(vault, SqliteKeyShelf(path))) as ring:
        sealed, _ = _sealed(ring)
    with closing(KeyRing(vault, SqliteKeyShelf(path))) as ring:
        assert ring.open("acme", PLACE, sealed) == b"{}"
    wrong: list[tuple[str, dict[str, str], str]] = [
        ("vault_for_test", {}, "module:factory"),
        ("no_such_module:x", {}, "cannot be loaded"),
        ("vault_for_test:none", {}, "cannot be loaded"),
        ("vault_for_test:Vault", {}, "does not take the options"),
        ("vault_for_test:nothing", {}, "has no id, wrap and unwrap"),
    ]
    for name, options, said in wrong:
        with pytest.raises(UsageError, match=said):
            kek_from_plugin(name, options)
    sys.modules.pop("vault_for_test")


def _sealed(ring: KeyRing, tenant: str = "acme") -> tuple[bytes, int]:
    ring.require(tenant)
    return ring.seal(tenant, PLACE, b"{}")


def test_processes_share_data_keys_and_tenants_do_not(path: Path) -> None:
    with ring_over(path) as one, ring_over(path) as two:
        sealed, version = _sealed(one)
        assert version == version_of(sealed) == 1
        assert two.open("acme", PLACE, sealed) == b"{}"
        assert _sealed(two)[1] == 1
        _sealed(two, "other")
        with pytest.raises(StoreCorrupt):
            two.open("other", PLACE, sealed)


def test_many_threads_make_one_key(path: Path) -> None:
    with ring_over(path) as ring:
        seen: list[int] = []
        threads = [threading.Thread(target=lambda: seen.append(_sealed(ring)[1])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1] * 8
        assert len(ring.shelf.keys(["acme"])) == 1


def test_the_wrong_key_of_keys_says_so(path: Path) -> None:
    with ring_over(path) as ring:
        sealed, _ = _sealed(ring)
    with ring_over(path, b"w" * 32) as ring:
        with pytest.raises(UsageError, match="it is the wrong key"):
            ring.open("acme", PLACE, sealed)
        with pytest.raises(UsageError, match="it is the wrong key"):
            ring.require("acme")


def test_no_key_of_keys_says_so(path: Path) -> None:
    with ring_over(path) as ring:
        sealed, _ = _sealed(ring)
    with pytest.raises(UsageError, match="no key is configured"):
        PLAIN.open("acme", PLACE, sealed)


def test_a_data_key_that_was_changed_or_moved_is_found(path: Path) -> None:
    with ring_over(path) as ring:
        sealed, _ = _sealed(ring)
        _sealed(ring, "other")
        (mine,), (others,) = ring.shelf.keys(["acme"]), ring.shelf.keys(["other"])
        ring.shelf.change("acme", mine[1], others[2])
    with ring_over(path) as ring:
        with pytest.raises(StoreCorrupt, match="a data key does not open"):
            ring.open("acme", PLACE, sealed)
        ring.shelf.change("acme", mine[1], {**mine[2], "wrapped": "?"})
        ring.forget("acme")
        with pytest.raises(StoreCorrupt, match="cannot be read"):
            ring.open("acme", PLACE, sealed)


def test_a_data_key_that_is_missing_is_not_called_erased(path: Path) -> None:
    with ring_over(path) as ring:
        ring.add("acme", 1, state="whole")
        ring.add("acme", 2, state="whole")
        sealed, version = _sealed(ring)
        assert version == 2
    with ring_over(path) as ring:
        ring.shelf.drop("acme", "00000001", {"version": 1, "kek": "x"})
        with pytest.raises(StoreCorrupt, match="data key 2 of tenant 'acme' is missing"):
            ring.open("acme", PLACE, sealed)


def test_the_key_of_keys_is_changed_and_values_stay(path: Path) -> None:
    with ring_over(path) as ring:
        sealed, _ = _sealed(ring)
        _sealed(ring, "other")
    old = AesKek(KEY, source="old")
    with ring_over(path, b"n" * 32, previous=[old]) as ring:
        assert ring.open("acme", PLACE, sealed) == b"{}"
        assert rewrap(ring) == 2
        assert rewrap(ring) == 0
    with ring_over(path, b"n" * 32) as ring:
        assert ring.open("acme", PLACE, sealed) == b"{}"
    with ring_over(path) as ring, pytest.raises(UsageError):
        ring.open("acme", PLACE, sealed)


async def test_other_processes_hear_of_new_keys_and_of_destroyed_ones(path: Path) -> None:
    with ring_over(path, refresh_s=0.01) as one, ring_over(path, refresh_s=0.01) as two:
        sealed, _ = _sealed(one)
        assert two.open("acme", PLACE, sealed) == b"{}"
        one.add("acme", 2, state="filling")
        await until(lambda: _sealed(two)[1] == 2)
        kept, _ = _sealed(two, "other")
        assert shred(one, "acme") == 2

        def is_erased() -> bool:
            try:
                two.open("acme", PLACE, sealed)
            except Erased:
                return True
            return False

        await until(is_erased)
        assert one.open("other", PLACE, kept) == two.open("other", PLACE, kept) == b"{}"
        assert _sealed(two)[1] == 3, "whoever begins anew never uses a number again"
        with pytest.raises(Erased, match="it was erased"):
            one.open("acme", PLACE, sealed)


def test_what_has_no_keys_cannot_be_shredded(path: Path) -> None:
    with ring_over(path) as ring, pytest.raises(NotFound, match="nothing of it is encrypted"):
        shred(ring, "nobody")


def test_destroyed_keys_are_gone_from_the_file(path: Path) -> None:
    with ring_over(path) as ring:
        _sealed(ring)
        ((_, _, value),) = ring.shelf.keys(["acme"])
        wrapped = value["wrapped"].encode()
        assert any(wrapped in file.read_bytes() for file in _files(path))
        shred(ring, "acme")
        assert not any(wrapped in file.read_bytes() for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{path.name}*")
