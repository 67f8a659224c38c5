"""Principals: rights that are handed on, and only ever become fewer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.domain.api_key import MAX_KEY_CHARS, is_key_id, new_id, new_text, parse
from collegium.domain.errors import NotAllowed, UsageError
from collegium.domain.principal import ADMIN, HOST, ROLES, SCOPES, Principal, agent_of, check_tenant, local, scopes_of

START = datetime(2026, 11, 22, tzinfo=UTC)
scopes = st.frozensets(st.sampled_from(sorted(SCOPES)))
moments = st.none() | st.integers(0, 10_000).map(lambda s: START + timedelta(seconds=s))
users = st.builds(
    Principal,
    id=st.just("user:ada"),
    tenant=st.sampled_from(["acme", "other"]),
    scopes=scopes,
    kind=st.sampled_from(["key", "user", "local"]),
    expires_at=moments,
    credential=st.just("user:ada"),
)


class Handed(NamedTuple):
    """One time that work is handed on."""

    role: frozenset[str]
    task: frozenset[str] | None
    expires_at: datetime | None


hands = st.lists(st.builds(Handed, scopes, st.none() | scopes, moments), min_size=1, max_size=8)


@settings(max_examples=1_000)
@given(users, hands)
def test_work_that_is_handed_on_never_gains_a_right(user: Principal, hands: list[Handed]):
    """Each agent of a chain may do what all before it may, in the same tenant, and for no longer."""
    before = user
    for n, (role, task, expires_at) in enumerate(hands):
        agent = agent_of(before, f"a{n}", role=role, task=task, expires_at=expires_at)
        assert agent.scopes <= before.scopes
        assert agent.scopes <= role
        assert task is None or agent.scopes <= task
        assert agent.scopes == before.scopes & role & (SCOPES if task is None else task), "and none is lost on the way"
        assert (agent.tenant, agent.kind, agent.id) == (user.tenant, "agent", f"agent:a{n}")
        assert agent.credential == user.credential, "what is revoked for the user is revoked for its agents"
        for end in (before.expires_at, expires_at):
            assert end is None or (agent.expires_at is not None and agent.expires_at <= end)
        before = agent


@given(users, scopes)
def test_rights_are_narrowed_never_widened(user: Principal, wanted: frozenset[str]):
    assert user.narrowed(wanted).scopes == user.scopes & wanted
    assert user.narrowed(SCOPES) == user


@given(users)
def test_whoever_has_not_the_scope_is_refused(user: Principal):
    for scope in SCOPES:
        if user.may(scope):
            user.require(scope)
        else:
            with pytest.raises(NotAllowed) as refused:
                user.require(scope)
            assert refused.value.fields["scope"] == scope


def test_no_role_speaks_for_the_installation():
    assert not any(HOST in ROLES[role] for role in ROLES)
    assert local("default").may(HOST)
    assert scopes_of(["viewer", "approver"], ["runs:write"]) == ROLES["approver"] | {"runs:write"}
    assert ROLES["viewer"] < ROLES["operator"] < ROLES["admin"] == ADMIN
    assert not ROLES["operator"] & {"approvals:decide", "keys:write", "admin"}
    for wrong in ("king", "", "ADMIN", "host"):
        with pytest.raises(UsageError):
            scopes_of([wrong])
    with pytest.raises(UsageError):
        scopes_of([], ["*"])


@pytest.mark.parametrize("name", ["", "~keys", "a/b", "a b", "../x", "a\n", "é", ".a", "-a", "a" * 101, "a\x00"])
def test_names_that_no_tenant_has(name: str):
    with pytest.raises(UsageError, match="cannot be a tenant"):
        check_tenant(name)


def test_names_that_tenants_have():
    for name in ("default", "acme", "Acme-2.eu_west", "a" * 100, "7"):
        assert check_tenant(name) == name


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_a_key_is_read_as_it_was_made(first: bytes, second: bytes):
    id_ = new_id(lambda n: first[:n])
    text = new_text("live", id_, lambda n: second[:n])
    shown = parse(text)
    assert shown is not None
    assert (shown.env, shown.id, shown.text) == ("live", id_, text)
    assert is_key_id(id_)
    assert len(text) <= MAX_KEY_CHARS
    assert len(text.rpartition("_")[2]) >= 32


@given(st.text(max_size=300))
def test_nothing_else_is_a_key(text: str):
    assert parse(text) is None
    assert parse(f"clg_{text}") is None or text.isascii()
