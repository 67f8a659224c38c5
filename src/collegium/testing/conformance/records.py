"""What every ``Records`` does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from collegium.domain.errors import Conflict
from collegium.domain.record import Condition, Record
from collegium.ports import Records

VALUES: dict[str, dict[str, Any]] = {
    "a": {"name": "ada", "age": 36, "ok": True, "note": None, "tags": ["x"]},
    "b": {"name": "bob", "age": 7.5, "ok": False, "note": "", "tags": []},
    "c": {"name": "Cleo", "age": 0, "ok": 1, "note": "null"},
    "d": {"name": "\u00e9va", "age": "36", "ok": "true"},
    "e": {"age": 36.0, "ok": 0, "note": {"x": 1}},
    "f": {},
}


def record(key: str, value: dict[str, Any] | None = None, *, tenant: str = "acme", kind: str = "person") -> Record:
    """A record to be put."""
    return Record(kind=kind, tenant=tenant, key=key, value=value if value is not None else {"key": key})


@pytest.mark.asyncio
class RecordsConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Records]:
        """An empty store, closed at exit."""

    def open_pair(self) -> AbstractAsyncContextManager[tuple[Records, Records]]:
        """Two adapters on one empty store, as two processes would have them."""
        pytest.skip("one process only")

    async def test_put_and_get(self) -> None:
        async with self.open() as records:
            assert await records.get("person", "acme", "a") is None
            value = {"text": "\x01 \u20ac '\" \U0001f600", "n": [1, -2.5, 2**53, None, True, {"x": {}}], "": 0}
            stored = await records.put(record("a", value))
            assert stored == Record(kind="person", tenant="acme", key="a", value=value, version=1)
            assert await records.get("person", "acme", "a") == stored
            again = await records.put(record("a", {"n": 2}))
            assert again.version == 2
            assert await records.get("person", "acme", "a") == again

    async def test_zero_bytes_in_values_come_back(self) -> None:
        async with self.open() as records:
            value = {"text": "\0", "a\0b": "x\0y\0", "list": ["\0"], "n": 1}
            await records.put(record("a", value))
            (found,) = await records.find("person", "acme", [Condition(field="n", op="=", value=1)])
            assert found.value == value
            with pytest.raises(ValueError, match="zero byte"):
                await records.find("person", "acme", [Condition(field="text", op="=", value="\0")])

    async def test_a_stored_value_is_a_copy(self) -> None:
        async with self.open() as records:
            value = {"list": [1]}
            await records.put(record("a", value))
            value["list"].append(2)
            got = await records.get("person", "acme", "a")
            assert got is not None
            assert got.value == {"list": [1]}

    async def test_compare_and_set(self) -> None:
        async with self.open() as records:
            with pytest.raises(Conflict):
                await records.put(record("a"), expected=1)
            await records.put(record("a"), expected=0)
            with pytest.raises(Conflict):
                await records.put(record("a"), expected=0)
            assert (await records.put(record("a", {"n": 2}), expected=1)).version == 2
            with pytest.raises(Conflict):
                await records.put(record("a"), expected=1)
            got = await records.get("person", "acme", "a")
            assert got is not None
            assert got.value == {"n": 2}

    async def test_delete(self) -> None:
        async with self.open() as records:
            assert not await records.delete("person", "acme", "a")
            with pytest.raises(Conflict):
                await records.delete("person", "acme", "a", expected=1)
            await records.put(record("a"))
            with pytest.raises(Conflict):
                await records.delete("person", "acme", "a", expected=2)
            assert await records.delete("person", "acme", "a", expected=1)
            assert await records.get("person", "acme", "a") is None
            assert (await records.put(record("a"), expected=0)).version == 1

    async def test_of_many_setters_one_wins(self) -> None:
        async with self.open() as records:
            await records.put(record("a"))
            tries = [records.put(record("a", {"n": n}), expected=1) for n in range(20)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(type(o).__name__ for o in outcomes) == ["Conflict"] * 19 + ["Record"]

    async def test_counting_by_compare_and_set_loses_nothing(self) -> None:
        async with self.open() as records:
            await records.put(record("a", {"n": 0}))
            await asyncio.gather(*(_add_one(records) for _ in range(15)))
            got = await records.get("person", "acme", "a")
            assert got is not None
            assert (got.value, got.version) == ({"n": 15}, 16)

    async def test_tenants_and_kinds_are_apart(self) -> None:
        async with self.open() as records:
            await records.put(record("a", {"n": 1}))
            await records.put(record("a", {"n": 2}, tenant="other"))
            await records.put(record("a", {"n": 3}, kind="robot"))
            for kind, tenant, n in (("person", "acme", 1), ("person", "other", 2), ("robot", "acme", 3)):
                (found,) = await records.find(kind, tenant)
                assert (found.kind, found.tenant, found.value) == (kind, tenant, {"n": n})
            assert await records.get("robot", "other", "a") is None
            assert not await records.delete("robot", "other", "a")

    async def test_find_pages_by_key(self) -> None:
        async with self.open() as records:
            keys = ["", "A", "a", "a/b", "b", "\u00e9", "\U0001f600", "\uffee"]
            for key in keys:
                await records.put(record(key, {"even": keys.index(key) % 2 == 0}))
            in_order = sorted(keys)[1:]
            assert [r.key for r in await records.find("person", "acme")] == in_order
            assert [r.key for r in await records.find("person", "acme", after="a", limit=2)] == ["a/b", "b"]
            even = [Condition(field="even", op="=", value=True)]
            assert [r.key for r in await records.find("person", "acme", even, after="a", limit=1)] == ["b"]
            assert await records.find("person", "acme", after=in_order[-1]) == ()
            assert await records.find("person", "acme", limit=0) == ()

    @pytest.mark.parametrize(
        ("field", "op", "value", "keys"),
        [
            ("name", "=", "ada", "a"),
            ("name", "=", "ADA", ""),
            ("name", "<", "b", "ac"),
            ("name", ">=", "bob", "bd"),
            ("age", "=", 36, "ae"),
            ("age", "=", "36", "d"),
            ("age", "<", 36, "bc"),
            ("age", "<=", 7.5, "bc"),
            ("age", ">", 7.4, "abe"),
            ("age", ">", "3", "d"),
            ("ok", "=", True, "a"),
            ("ok", "=", 1, "c"),
            ("ok", "=", False, "b"),
            ("ok", "=", 0, "e"),
            ("ok", ">=", 0, "ce"),
            ("note", "=", None, "a"),
            ("note", "=", "", "b"),
            ("note", "=", "null", "c"),
            ("note", ">=", "", "bc"),
            ("tags", "=", "x", ""),
            ("nothing", "=", None, ""),
            ("nothing", "=", 0, ""),
            ("name", "in", ["ada", "bob", "zoe"], "ab"),
            ("age", "in", [0, "36", None, 36], "acde"),
            ("ok", "in", [True, 0], "ae"),
            ("name", "in", [], ""),
        ],
    )
    async def test_find_by_a_condition(self, field: str, op: Any, value: object, keys: str) -> None:
        async with self.open() as records:
            for key, stored in VALUES.items():
                await records.put(record(key, stored))
            found = await records.find("person", "acme", [Condition(field=field, op=op, value=value)])
            assert "".join(r.key for r in found) == keys
            assert all(r.value == VALUES[r.key] and r.version == 1 for r in found)

    async def test_all_conditions_must_hold(self) -> None:
        async with self.open() as records:
            for key, stored in VALUES.items():
                await records.put(record(key, stored))
            conditions = [
                Condition(field="age", op=">=", value=0),
                Condition(field="age", op="<", value=36),
                Condition(field="ok", op="in", value=[False, 1]),
            ]
            assert [r.key for r in await records.find("person", "acme", conditions)] == ["b", "c"]

    @pytest.mark.parametrize(
        ("field", "op", "value"),
        [
            ("a.b", "=", 1),
            ("a'b", "=", 1),
            ('a"b', "=", 1),
            ("", "=", 1),
            ("a", "=", [1]),
            ("a", "=", {"x": 1}),
            ("a", "=", 2**64),
            ("a", "in", "abc"),
            ("a", "in", [[1]]),
            ("a", "<", None),
            ("a", ">", True),
        ],
    )
    async def test_a_condition_that_no_store_can_answer_is_wrong_use(self, field: str, op: Any, value: object) -> None:
        async with self.open() as records:
            with pytest.raises(ValueError, match=r"."):
                await records.find("person", "acme", [Condition(field=field, op=op, value=value)])

    async def test_two_processes_count_together(self) -> None:
        async with self.open_pair() as (one, two):
            await one.put(record("a", {"n": 0}))
            await asyncio.gather(*(_add_one(records) for records in [one, two] * 6))
            assert await one.get("person", "acme", "a") == await two.get("person", "acme", "a")
            got = await one.get("person", "acme", "a")
            assert got is not None
            assert got.value == {"n": 12}


async def _add_one(records: Records) -> None:
    while True:
        got = await records.get("person", "acme", "a")
        assert got is not None
        try:
            await records.put(record("a", {"n": got.value["n"] + 1}), expected=got.version)
            return
        except Conflict:
            continue
