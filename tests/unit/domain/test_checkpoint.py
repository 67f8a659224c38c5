"""Chains of checkpoints: what they say together, and that nothing in them can be changed or exchanged."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain import checkpoint
from collegium.domain.checkpoint import Checkpoint, Entry, cover, following, is_genuine, is_too_long, taken_in

KEY = b"k" * 32
AT = datetime(2026, 1, 1, 12, 0, 0, 500_001, tzinfo=UTC)


def grown(chain: list[Checkpoint], changed: list[Entry], *, spare: int = 1_000_000) -> None:
    """Adds a checkpoint; what it takes in is dropped."""
    newest = chain[-1] if chain else None
    before = None
    if newest is not None and newest.surplus + len(changed) > spare:
        before = taken_in(KEY, chain[newest.whole - 1 :], lambda entry: True)
    made = following(KEY, newest, changed, tenant="acme", at=AT, cursor=len(chain), all_before=before)
    if before is not None:
        chain[:] = [msgspec.structs.replace(one, entries=None) for one in chain]
    chain.append(made)


def numbered(chain: list[Checkpoint]) -> list[tuple[int, Checkpoint | None]]:
    return [(n, one) for n, one in enumerate(chain, 1)]


def test_a_signature_is_what_it_was_in_every_version() -> None:
    first = following(KEY, None, [Entry("run_b", 2, "22"), Entry("run_a", 1, "11")], tenant="acme", at=AT, cursor=7)
    second = following(KEY, first, [Entry("run_b", 3, "33")], tenant="acme", at=AT, cursor=9)
    assert first.digest == "c57e7be7213d7b53b58a6873882af554ae4ba7cab8f3e585aed9fbd7506baf92"
    assert first.signature == "bb1796b1e776036d97135b7dfd4f63daa09bde79e1da9c55636944c1a9e1f401"
    assert second.signature == "a2ee2732c075bff6359214b83be4b0c38153ddf932fed62ebc3ef9131ea5e81f"
    stored = msgspec.json.decode(msgspec.json.encode(second), type=Checkpoint)
    assert stored == second
    assert is_genuine(KEY, stored)
    assert not is_genuine(b"x" * 32, stored)


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True), min_size=1, max_size=40))
def test_all_that_was_listed_last_is_known_whatever_was_dropped(changes: list[list[int]]) -> None:
    chain: list[Checkpoint] = []
    stands: dict[str, int] = {}
    for runs in changes:
        for run in runs:
            stands[f"run_{run}"] = stands.get(f"run_{run}", 0) + 1
        grown(chain, [Entry(f"run_{r}", stands[f"run_{r}"], "ab") for r in runs], spare=5)
    coverage = cover(KEY, "acme", numbered(chain))
    assert (coverage.flaw, coverage.newest) == (None, chain[-1])
    assert {run: listed[-1].seq for run, listed in coverage.listed.items()} == stands
    assert sum(len(one.entries or ()) for one in chain) <= 2 * len(stands) + 5


@given(st.randoms(use_true_random=False), st.integers(2, 12))
def test_a_changed_byte_is_found_where_it_is(rng: Random, length: int) -> None:
    chain: list[Checkpoint] = []
    for n in range(length):
        grown(chain, [Entry(f"run_{n % 3}", n, "ab"), Entry("run_x", n, "cd")], spare=6)
    place = rng.randrange(length)
    text = bytearray(msgspec.json.encode(chain[place]))
    at = rng.randrange(len(text))
    text[at] = (text[at] + rng.randint(1, 255)) % 256
    try:
        changed = msgspec.json.decode(bytes(text), type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        changed = None
    if changed == chain[place]:
        return  # the same written otherwise
    stored = numbered(chain)
    stored[place] = (place + 1, changed)
    flaw = cover(KEY, "acme", stored).flaw
    assert flaw is not None
    assert flaw.number == place + 1


def test_pieces_of_two_chains_do_not_make_one() -> None:
    chain: list[Checkpoint] = []
    for n in range(3):
        grown(chain, [Entry("run_a", n, "aa")])
    other = list(chain)
    for n in range(3, 6):
        grown(chain, [Entry("run_a", n, "aa")])
        grown(other, [Entry("run_a", n, "bb")])
    assert cover(KEY, "acme", numbered(other)).flaw is None
    flaw = cover(KEY, "acme", numbered([*chain[:4], *other[4:]])).flaw
    assert flaw is not None
    assert (flaw.number, flaw.why) == (5, "does not follow the one before it")


def test_what_no_longer_agrees_is_not_taken_in() -> None:
    chain: list[Checkpoint] = []
    for n in range(3):
        grown(chain, [Entry("run_a", n, "aa")])
    assert taken_in(KEY, chain, lambda entry: True) == (Entry("run_a", 2, "aa"),)
    assert taken_in(KEY, chain, lambda entry: entry.seq != 1) is None
    assert taken_in(KEY, [chain[0], chain[2]], lambda entry: True) is None
    assert taken_in(b"x" * 32, chain, lambda entry: True) is None
    assert taken_in(KEY, [chain[0], msgspec.structs.replace(chain[1], entries=None)], lambda entry: True) is None


def test_there_is_a_measure_of_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SPARE_ENTRIES", 1)
    first = following(KEY, None, [Entry("run_a", 1, "a"), Entry("run_b", 1, "b")], tenant="acme", at=AT, cursor=1)
    assert not is_too_long(None, [Entry("run_a", 2, "a")] * 9)
    assert not is_too_long(first, [Entry("run_a", 2, "a")] * 3)
    assert is_too_long(first, [Entry("run_a", 2, "a")] * 4)
