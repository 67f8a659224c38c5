"""The chain: every edit, removal and reordering is named at the first bad event."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.sqlite.store import open_store
from collegium.domain import chain
from collegium.testing.conformance.drafts import begin, decide, noted, ready

KEY = b"k" * 32
FIELDS = {
    "run": st.text(max_size=5),
    "seq": st.integers(1, 2**63 - 1),
    "id_": st.text(max_size=5),
    "tenant": st.text(max_size=5),
    "type_": st.text(max_size=5),
    "v": st.integers(1, 9),
    "at_us": st.integers(0, 2**60),
    "task": st.none() | st.text(max_size=5),
    "attempt": st.none() | st.integers(1, 99),
    "digest": st.binary(min_size=32, max_size=32),
}


@given(one=st.fixed_dictionaries(FIELDS), two=st.fixed_dictionaries(FIELDS))
def test_different_events_have_different_macs(one, two):
    macs = [chain.mac_of(KEY, chain.GENESIS, **fields) for fields in (one, two)]
    assert (macs[0] == macs[1]) == (one == two)


@given(fields=st.fixed_dictionaries(FIELDS), change=st.sampled_from(sorted(FIELDS)), data=st.data())
def test_every_field_counts(fields, change, data):
    other = dict(fields, **{change: data.draw(FIELDS[change].filter(lambda value: value != fields[change]))})
    assert chain.mac_of(KEY, chain.GENESIS, **fields) != chain.mac_of(KEY, chain.GENESIS, **other)


def test_the_bytes_under_the_mac_are_for_ever():
    """A stored chain must verify in every later version."""
    mac = chain.mac_of(
        b"key",
        chain.GENESIS,
        run="run_1",
        seq=1,
        id_="evt_1",
        tenant='a"\u00e9\n',
        type_="run.said",
        v=1,
        at_us=1_700_000_000_000_001,
        task=None,
        attempt=None,
        digest=chain.digest_of(b"salt", b"{}"),
    )
    assert mac.hex() == "4cc54af81558c744eec0b35b39f671bc23cf00e6e6fa7f9334196cec40a34127"


async def store_with_a_run(path):
    store = open_store(path, chain_key=KEY)
    await begin(store.journal, "run_a", notes=2)
    await decide(store.journal, "run_a", [ready("t", 1)])
    await store.journal.append("run_a", [noted("x" * 10_000, task="t", attempt=1), noted("last")]).durable()
    await begin(store.journal, "run_b", notes=3)
    return store


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("SELECT 1", None),
        ("UPDATE events SET body = replace(body, 'ada', 'eve') WHERE run = 'run_a' AND seq = 2", 2),
        ("UPDATE events SET type = 'run.said' WHERE run = 'run_a' AND seq = 3", 3),
        ("UPDATE events SET v = 2 WHERE run = 'run_a' AND seq = 3", 3),
        ("UPDATE events SET at = at + 1 WHERE run = 'run_a' AND seq = 1", 1),
        ("UPDATE events SET id = 'evt_x' WHERE run = 'run_a' AND seq = 6", 6),
        ("UPDATE events SET task = 'u' WHERE run = 'run_a' AND seq = 4", 4),
        ("UPDATE events SET attempt = 2 WHERE run = 'run_a' AND seq = 5", 5),
        ("UPDATE events SET tenant = 'eve' WHERE run = 'run_a' AND seq = 2", 2),
        ("UPDATE events SET salt = zeroblob(16) WHERE run = 'run_a' AND seq = 2", 2),
        ("UPDATE events SET digest = zeroblob(32) WHERE run = 'run_a' AND seq = 2", 2),
        ("UPDATE events SET mac = zeroblob(32) WHERE run = 'run_a' AND seq = 4", 4),
        ("UPDATE events SET body = NULL WHERE run = 'run_a' AND seq = 4", 4),
        ("UPDATE blobs SET data = 'y'", 5),
        ("DELETE FROM blobs", 5),
        ("DELETE FROM events WHERE run = 'run_a' AND seq = 1", 1),
        ("DELETE FROM events WHERE run = 'run_a' AND seq = 3", 3),
        ("DELETE FROM events WHERE run = 'run_a' AND seq = 6", 6),
        ("DELETE FROM events WHERE run = 'run_a'", 1),
        ("UPDATE heads SET seq = 5 WHERE run = 'run_a'", 6),
        ("DELETE FROM events WHERE run = 'run_a' AND seq = 6; UPDATE heads SET seq = 5 WHERE run = 'run_a'", 5),
        (
            """UPDATE events SET seq = -2 WHERE run = 'run_a' AND seq = 2;
            UPDATE events SET seq = 2 WHERE run = 'run_a' AND seq = 3;
            UPDATE events SET seq = 3 WHERE run = 'run_a' AND seq = -2""",
            2,
        ),
        (
            """DELETE FROM events WHERE run = 'run_a' AND seq > 3;
            UPDATE events SET run = 'run_a' WHERE run = 'run_b' AND seq > 3""",
            4,
        ),
    ],
)
async def test_tampering_is_named_at_the_first_bad_event(tmp_path, statement, first_bad):
    store = await store_with_a_run(tmp_path / "store.db")
    assert await store.journal.verify("run_a") is None
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.executescript(statement)
    connection.close()
    assert await store.journal.verify("run_a") == first_bad
    if "run_b" not in statement and "blobs" not in statement:
        assert await store.journal.verify("run_b") is None
    await store.aclose()


async def test_another_key_verifies_nothing(tmp_path):
    store = await store_with_a_run(tmp_path / "store.db")
    await store.aclose()
    other = open_store(tmp_path / "store.db", chain_key=b"other")
    assert await other.journal.verify("run_a") == 1
    assert await other.journal.verify("run_unknown") is None
    await other.aclose()


async def test_the_chain_goes_on_after_reopening(tmp_path):
    store = await store_with_a_run(tmp_path / "store.db")
    await store.aclose()
    store = open_store(tmp_path / "store.db", chain_key=KEY)
    await store.journal.append("run_a", [noted("after")]).durable()
    assert await store.journal.verify("run_a") is None
    await store.aclose()
