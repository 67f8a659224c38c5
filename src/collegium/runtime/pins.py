"""Pins: a run ends on the versions of agents and tools that it began with.

A run that is submitted names them by their digests. What agents are made of is kept by digest, so that a worker with
a newer declaration still works with the one that was meant. Code cannot be kept: a tool of another version parks the
task.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from collegium.agents.roster import Roster, declaration, digest
from collegium.domain.agent import Agent
from collegium.domain.chat import ModelProfile
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.domain.tool import ToolDefinition
from collegium.ports import Records
from collegium.tools.toolbox import Toolbox

AGENT, TOOL, PROFILE = "pinned_agent", "pinned_tool", "pinned_model"
"""Kinds of records. The keys are the digests, so a record never changes."""
_MAX_ROSTERS = 64


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One pin that is not what there is now.

    ``kept``: the run goes on with what it began with. ``replaced``: with what there is now. ``gone``: it cannot, what
    needs it waits.
    """

    what: str
    pinned: str
    present: str | None
    outcome: Literal["kept", "replaced", "gone"]


class Pins:
    """Keeps what runs are pinned to, and finds it again."""

    def __init__(
        self, records: Records, roster: Roster, tools: Sequence[ToolDefinition], *, others: Mapping[str, str]
    ) -> None:
        """``others`` are further pins, such as ``scorer`` and ``embedder``, by name."""
        self._records = records
        self._roster = roster
        self._tools = {d.name: d for d in tools}
        self._wanted: list[tuple[str, str, object]] = [(AGENT, digest(a), a) for a in roster]
        self._digests = {a.name: digest(a) for a in roster}
        self._wanted += [(TOOL, f"{d.name}@{d.version}", d) for d in tools]
        self._kept: set[tuple[str, str, str]] = set()
        self._rosters: dict[tuple[str, str], Roster] = {}
        self.present: dict[str, str] = {
            **roster.pins(),
            **{f"tool:{d.name}": d.version for d in tools},
            **{k: v for k, v in others.items() if v},
        }
        """What a run that is submitted now keeps to."""

    @property
    def tools(self) -> tuple[ToolDefinition, ...]:
        """The tools that there are now."""
        return tuple(self._tools.values())

    async def keep(self, tenant: str, models: Mapping[str, ModelProfile] | None = None) -> dict[str, str]:
        """Sees to it that all that is present can be found again, durably, and returns the pins of a new run.

        ``models`` are those the run is known to ask, by the names they were opened under.
        """
        profiles = models or {}
        wanted = [*self._wanted, *((PROFILE, _profile_key(name, p), p) for name, p in profiles.items())]
        missing = [(kind, key, value) for kind, key, value in wanted if (tenant, kind, key) not in self._kept]
        if missing:
            await asyncio.gather(*(self._keep(tenant, kind, key, value) for kind, key, value in missing))
        return {**self.present, **{f"model:{name}": _profile_key(name, p) for name, p in profiles.items()}}

    async def keep_model(self, tenant: str, name: str, profile: ModelProfile) -> None:
        """Sees to it that what the model called ``name`` can do is known later, where nobody may ask it."""
        key = _profile_key(name, profile)
        if (tenant, PROFILE, key) not in self._kept:
            await self._keep(tenant, PROFILE, key, profile)

    async def roster(self, tenant: str, pins: Mapping[str, str]) -> Roster:
        """The agents a run is pinned to; present ones where a kept one cannot be found."""
        if self._are_present(pins):
            return self._roster
        mine = {name.removeprefix("agent:"): d for name, d in pins.items() if name.startswith("agent:")}
        if not mine or mine == self._digests:
            return self._roster
        key = (tenant, repr(sorted(mine.items())))
        if key not in self._rosters:
            now = {a.name: a for a in self._roster}
            found = [await self._agent(tenant, name, d) or now.get(name) for name, d in mine.items()]
            self._rosters[key] = Roster(a for a in found if a is not None)
            while len(self._rosters) > _MAX_ROSTERS:
                del self._rosters[next(iter(self._rosters))]
        return self._rosters[key]

    def gone(self, state: RunState, wanted: Iterable[str], for_task: Iterable[str]) -> str | None:
        """What keeps a task from going on that is granted some tools, and what to do about it; None when nothing does.

        Args:
            state: The run.
            wanted: Names and patterns of the tools that the agent may use.
            for_task: Those that the task may use; none for all of them.
        """
        if self._are_present(state.pins):
            return None
        patterns, narrower = tuple(wanted), tuple(for_task)
        for name, pinned in tools_of(state.pins).items():
            if not self._is_meant(name, patterns) or (narrower and not _matches(name, narrower)):
                continue
            present = self.present.get(f"tool:{name}")
            if pinned != present:
                return (
                    f"the run began with version {pinned} of the tool {name!r}, {_remedy(state.id, present)}, or "
                    f"`collegium runs fork {state.id} --at SEQ` goes on with what there is"
                )
        return None

    def _is_meant(self, name: str, patterns: Collection[str]) -> bool:
        """Whether a grant of ``patterns`` has the tool; see ``Toolbox.matching``."""
        known = self._tools.get(name)
        return name in patterns if known is not None and known.is_team else _matches(name, patterns)

    def _are_present(self, pins: Mapping[str, str]) -> bool:
        """Whether a run keeps to exactly what there is now, the models aside: so it is with nearly every run."""
        return self.present.items() <= pins.items() and all(
            name.startswith("model:") for name in pins.keys() - self.present.keys()
        )

    async def compare(self, tenant: str, pins: Mapping[str, str]) -> tuple[Difference, ...]:
        """Every pin of a run that is not what there is now."""
        found = []
        for what, pinned in sorted(pins.items()):
            present = self.present.get(what)
            if present == pinned or what.startswith("model:"):
                continue
            outcome = await self._outcome(tenant, what, pinned, present)
            found.append(Difference(what=what, pinned=pinned, present=present, outcome=outcome))
        return tuple(found)

    async def _outcome(
        self, tenant: str, what: str, pinned: str, present: str | None
    ) -> Literal["kept", "replaced", "gone"]:
        kind, _, name = what.partition(":")
        if kind == "agent" and await self._agent(tenant, name, pinned) is not None:
            return "kept"
        return "gone" if kind == "tool" or (kind == "agent" and present is None) else "replaced"

    async def _agent(self, tenant: str, name: str, wanted: str) -> Agent | None:
        present = next((a for a in self._roster if a.name == name and digest(a) == wanted), None)
        if present is not None:
            return present
        record = await self._records.get(AGENT, tenant, wanted)
        return None if record is None else msgspec.convert(record.value, Agent)

    async def _keep(self, tenant: str, kind: str, key: str, value: object) -> None:
        known = await self._records.get(kind, tenant, key)
        # The right that a tool takes is no part of its version, and may have been given to it later.
        if known is None or (isinstance(value, ToolDefinition) and known.value.get("scope", "") != value.scope):
            kept = declaration(value) if isinstance(value, Agent) else msgspec.to_builtins(value)
            await self._records.put(Record(kind=kind, tenant=tenant, key=key, value=kept))
        self._kept.add((tenant, kind, key))


class PinnedThings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is pinned to, whole: by the names of agents and tools, and of models."""

    agents: dict[str, Agent] = {}
    tools: dict[str, ToolDefinition] = {}
    models: dict[str, ModelProfile] = {}


async def pinned_things(records: Records, tenant: str, pins: Mapping[str, str]) -> PinnedThings:
    """What is kept of the pins; what is not found is left out."""
    agents: dict[str, Agent] = {}
    tools: dict[str, ToolDefinition] = {}
    models: dict[str, ModelProfile] = {}
    for what, version in pins.items():
        kind, _, name = what.partition(":")
        if kind == "agent" and (record := await records.get(AGENT, tenant, version)) is not None:
            agents[name] = msgspec.convert(record.value, Agent)
        elif kind == "tool" and (record := await records.get(TOOL, tenant, f"{name}@{version}")) is not None:
            tools[name] = msgspec.convert(record.value, ToolDefinition)
        elif kind == "model" and (record := await records.get(PROFILE, tenant, version)) is not None:
            models[name] = msgspec.convert(record.value, ModelProfile)
    return PinnedThings(agents=agents, tools=tools, models=models)


async def profile_of(records: Records, tenant: str, name: str) -> ModelProfile | None:
    """What the model called ``name`` could do when it was opened last, for runs that do not pin it."""
    found = await records.find(PROFILE, tenant, after=f"{name}@", limit=100)
    known = [r for r in found if r.key.startswith(f"{name}@")]
    return msgspec.convert(known[-1].value, ModelProfile) if known else None


def tools_of(pins: Mapping[str, str]) -> dict[str, str]:
    """The versions of the tools among ``pins``, by name."""
    return {name.removeprefix("tool:"): v for name, v in sorted(pins.items()) if name.startswith("tool:")}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


@lru_cache(maxsize=1_024)
def _profile_key(name: str, profile: ModelProfile) -> str:
    return f"{name}@{hashlib.sha256(msgspec.json.encode(profile, order='sorted')).hexdigest()[:16]}"


def granted(agent: Agent, state: RunState, for_task: tuple[str, ...], toolbox: Toolbox) -> tuple[ToolDefinition, ...]:
    """What the agent may use for this task: its own tools, narrowed by the task's list where it has one."""
    own = toolbox.matching((*agent.tools, *state.goal.tools))
    pinned = tools_of(state.pins)
    if pinned:  # tools that came later are for runs that came later
        own &= pinned.keys()
    return toolbox.granted(own & toolbox.matching(for_task) if for_task else own)


def _remedy(run: str, present: str | None) -> str:
    """What has become of a tool, and how the run goes on with the one it began with."""
    if present is not None:
        return f"which has version {present} now: restore it and `collegium runs resume {run}`"
    return (
        "which this process does not have. Tools in Python belong to the program that gives them: there, inside "
        f"`open_collegium(tools=[...])`, `await app.resume({run!r})` goes on"
    )
