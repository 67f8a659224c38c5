"""Who there is: agents declared in TOML, the built-in ones like a user's own."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

from collegium.domain.agent import Agent
from collegium.domain.errors import UnknownName, UsageError
from collegium.domain.principal import scopes_of


class Roster:
    """The agents of a system, by name and by capability. A later agent of the same name replaces the earlier one."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._agents = {a.name: a for a in agents}
        if not self._agents:
            raise UsageError("there are no agents: declare at least one, or keep the built-in ones")
        self._capabilities = tuple(sorted({c for a in self._agents.values() for c in a.capabilities}))

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Everything that tasks may ask for, sorted."""
        return self._capabilities

    def get(self, name: str) -> Agent:
        """The agent. Raises ``UnknownName`` with the nearest names."""
        agent = self._agents.get(name)
        if agent is None:
            near = get_close_matches(name, self._agents, n=3) or sorted(self._agents)
            raise UnknownName(f"there is no agent {name!r}; did you mean {', '.join(near)}?", name=name)
        return agent

    def able(self, capability: str) -> tuple[Agent, ...]:
        """Agents that have ``capability``, by name."""
        return tuple(sorted((a for a in self if capability in a.capabilities), key=lambda a: a.name))

    def pins(self) -> dict[str, str]:
        """Each agent with the digest of everything it is made of, as a run pins them."""
        return {f"agent:{a.name}": digest(a) for a in self}


@lru_cache(maxsize=1_024)
def digest(agent: Agent) -> str:
    """A short hash of the whole declaration, the prompt's text included."""
    return hashlib.sha256(msgspec.json.encode(declaration(agent), order="sorted")).hexdigest()[:16]


def declaration(agent: Agent) -> dict[str, Any]:
    """Everything that is declared of ``agent``, as it is kept and hashed.

    Fields that came later are left out where they are not used: an agent that has not changed keeps its digest, and a
    worker of an earlier version can still read what is kept of it.
    """
    told: dict[str, Any] = msgspec.to_builtins(agent)
    # Of rights, none at all is something else than nothing said.
    return {k: v for k, v in told.items() if k not in _LATER or v or (k == "scopes" and v is not None)}


_LATER = frozenset({"accepts", "max_concurrent_fleet", "scopes"})


def parse(text: str, *, source: str, prompt: Callable[[str], str]) -> tuple[Agent, ...]:
    """The agents of one TOML document: a table ``[agent.NAME]`` each.

    Args:
        text: The document.
        source: Where the text comes from, for errors.
        prompt: Gives the text of the file that ``prompt_file`` names.

    Raises UsageError naming the source, the agent and the field.
    """
    try:
        tables = tomllib.loads(text).get("agent", {})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not valid TOML: {error}", source=source) from error
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{source} declares no agent: it needs at least one table [agent.NAME]", source=source)
    return tuple(_agent(name, table, source=source, prompt=prompt) for name, table in tables.items())


def builtin_agents() -> tuple[Agent, ...]:
    """The agents that come with collegium."""
    folder = files("collegium.agents") / "builtin"
    sources = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(a for f in sources for a in parse(f.read_text("utf-8"), source=f.name, prompt=builtin_prompt))


def builtin_prompt(name: str) -> str:
    """The text of a prompt that comes with collegium, e.g. ``writer@1``. Raises ``UnknownName``."""
    path = files("collegium.agents") / "prompts" / f"{name}.md"
    if not path.is_file():
        raise UnknownName(f"there is no prompt {name!r}", name=name)
    return path.read_text("utf-8").strip()


def _agent(name: str, table: Any, *, source: str, prompt: Callable[[str], str]) -> Agent:
    if not isinstance(table, dict):
        raise UsageError(f"{source}: agent {name!r} has to be a table [agent.{name}]", source=source, agent=name)
    fields = dict(table)
    if "prompt_file" in fields:
        fields["prompt"] = prompt(str(fields.pop("prompt_file")))
    try:
        agent = msgspec.convert({"name": name, **fields}, Agent)
        scopes_of((), agent.scopes or ())
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{source}: agent {name!r}: {error}", source=source, agent=name) from error
    return agent
