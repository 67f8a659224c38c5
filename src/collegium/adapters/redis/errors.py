"""What the errors of Redis mean."""

from __future__ import annotations

from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from collegium.domain.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable, UsageError

_CLUSTER = "a single Redis server is needed (or one with replicas behind a fixed address), not a Redis Cluster"

_ADVICE: Final[dict[type[Exception], str]] = {
    TimeoutError: "did not answer in time; it is tried again",
    OutOfMemoryError: "has no memory left (maxmemory): what waits has to be worked off, or give Redis more",
    ReadOnlyError: "is a replica and may not be written: name the primary",
    BusyLoadingError: "is loading its data; it is tried again",
    AuthenticationError: "does not let this user in: check user and password in the URL",
    NoPermissionError: "forbids this user a command ({said}): docs/how-to/redis.md says which it needs",
}


def refused(error: BaseException) -> bool:
    """Whether only people can put it right: a password, a permission, a cluster."""
    return isinstance(error, (AuthenticationError, NoPermissionError)) or _is_cluster(error)


def store_error(error: ResponseError, place: str) -> StoreError:
    """The error of a store for an answer of Redis."""
    text = with_advice(error, place)
    if isinstance(error, OutOfMemoryError):
        return StoreFull(text, store=place)
    if isinstance(error, ReadOnlyError) or _code(error) in {"MISCONF", "NOREPLICAS"}:
        return StoreReadOnly(text, store=place)
    if refused(error) or _code(error) in {"BUSY", "TRYAGAIN"}:
        return StoreUnavailable(text, store=place)
    return StoreError(text, store=place)


def with_advice(error: BaseException, place: str) -> str:
    """What has happened and what to do, in a sentence."""
    said = _said(error)
    if _is_cluster(error):
        return f"{place} belongs to a cluster ({said}): {_CLUSTER}"
    for kind, text in _ADVICE.items():
        if isinstance(error, kind):
            return f"{place} {text.format(said=said)}"
    if _code(error) in {"MISCONF", "NOREPLICAS"}:
        return f"{place} refuses to be written ({said})"
    if isinstance(error, ResponseError):
        return f"{place} does not do what was asked: {said}"
    if isinstance(error, (RedisError, OSError)):
        return f"{place} cannot be used now ({said}); it is tried again"
    return f"{place} does not answer like a Redis server: check host and port ({said})"


def usage_error(info: str, place: str, *, oldest: tuple[int, int]) -> UsageError | None:
    """What speaks against this server, by what it says of itself."""
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version = facts.get("redis_version", "0.0").split(".")
    if tuple(int(part) for part in version[:2] if part.isdigit()) < oldest:
        wanted = ".".join(map(str, oldest))
        return UsageError(f"{place} is Redis {facts.get('redis_version', '?')}; {wanted} or newer is needed")
    if facts.get("cluster_enabled") == "1":
        return UsageError(f"{place} belongs to a cluster: {_CLUSTER}")
    if facts.get("role", "master") != "master":
        return UsageError(f"{place} is a replica and may not be written: name the primary")
    return None


def _is_cluster(error: BaseException) -> bool:
    if isinstance(error, (AskError, ClusterCrossSlotError, ClusterDownError)):
        return not isinstance(error, MasterDownError)
    return isinstance(error, ResponseError) and "in a cluster node" in str(error)


def _code(error: BaseException) -> str:
    return str(error).partition(" ")[0]


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
