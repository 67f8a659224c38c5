"""Envelopes: opened where they were put and as they were sealed, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.encryption.aes_gcm import DataKey
from collegium.domain.envelope import (
    HEADER_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    blob_place,
    event_place,
    from_text,
    is_sealed,
    place_of,
    record_place,
    take_apart,
    to_text,
    version_of,
)
from collegium.domain.errors import StoreCorrupt

KEY = DataKey(b"\x07" * 32, 3)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.binary(max_size=300), NAMES, NAMES, st.integers(1, 2**40))
def test_what_is_sealed_opens_again(plain: bytes, tenant: str, run: str, seq: int) -> None:
    place = event_place(tenant, run, seq)
    data = KEY.seal(place, plain)
    assert is_sealed(data)
    assert version_of(data) == 3
    assert len(data) == len(plain) + HEADER_BYTES + NONCE_BYTES + TAG_BYTES
    assert KEY.open(place, take_apart(data)) == plain
    assert from_text(to_text(data)) == data


@given(st.binary(max_size=100), st.data())
def test_any_changed_byte_is_found(plain: bytes, data: st.DataObject) -> None:
    place = blob_place("acme", "ab" * 32)
    sealed = bytearray(KEY.seal(place, plain))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreCorrupt):
        KEY.open(place, take_apart(bytes(sealed)))


@given(st.binary(max_size=60), st.integers(0, 200))
def test_what_was_cut_off_or_added_to_is_found(plain: bytes, length: int) -> None:
    place = record_place("acme", "note", "a")
    sealed = KEY.seal(place, plain)
    changed = sealed[:length] if length < len(sealed) else sealed + b"x" * (length - len(sealed) + 1)
    with pytest.raises(StoreCorrupt):
        KEY.open(place, take_apart(changed))


@given(NAMES, NAMES, NAMES, NAMES)
def test_an_envelope_opens_nowhere_else(tenant: str, run: str, other_tenant: str, other_run: str) -> None:
    sealed = take_apart(KEY.seal(event_place(tenant, run, 1), b"{}"))
    for place in (
        event_place(tenant, run, 2),
        blob_place(tenant, run),
        place_of(tenant, "events", run),
        event_place(other_tenant, other_run, 1),
    ):
        if place != event_place(tenant, run, 1):
            with pytest.raises(StoreCorrupt, match="changed, or put where something else was"):
                KEY.open(place, sealed)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=2, max_size=8, unique=True))
def test_no_two_places_are_alike(names: list[tuple[str, str, str]]) -> None:
    assert len({record_place(*name) for name in names}) == len(names)


def test_json_is_never_taken_for_an_envelope() -> None:
    assert not any(is_sealed(text) for text in (b"{}", b"[1]", b'"x"', b" 1", b"null", b""))
    assert version_of(b"{}") == 0


def test_nonces_do_not_come_again() -> None:
    place = event_place("acme", "run_a", 1)
    nonces = {take_apart(KEY.seal(place, b"{}")).nonce for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_an_envelope_of_a_newer_format_says_so() -> None:
    sealed = bytearray(KEY.seal(b"", b"{}"))
    sealed[1] = 9
    with pytest.raises(StoreCorrupt, match="format 9"):
        take_apart(bytes(sealed))


def test_text_that_is_no_envelope_says_so() -> None:
    with pytest.raises(StoreCorrupt):
        from_text("no base64!")
