"""Agent cards: what anybody may know of the team, and what those know who may use it."""

from __future__ import annotations

from collections.abc import Mapping

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

_SKILL = AgentSkill(
    id="goal",
    name="Reach a goal",
    description="Plans a goal, works on it with several agents, checks the answer against its sources.",
    tags=["planning", "research", "writing"],
    examples=["Which clauses of the two contracts differ?"],
)


def public_card(base: str, version: str) -> AgentCard:
    """What anybody may know: where it is asked, and that credentials are needed. ``base`` ends without a slash."""
    bearer = HTTPAuthSecurityScheme(scheme="Bearer", description="An API key, or a token of the identity provider.")
    return AgentCard(
        name="collegium",
        description="A team of agents that does whole goals and says what its answers rest on.",
        version=version,
        supported_interfaces=[
            AgentInterface(url=f"{base}/a2a", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{base}/a2a", protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=False, extended_agent_card=True),
        security_schemes={"bearer": SecurityScheme(http_auth_security_scheme=bearer)},
        security_requirements=[SecurityRequirement(schemes={"bearer": StringList()})],
        default_input_modes=["text/plain", "application/json", "application/octet-stream"],
        default_output_modes=["text/markdown", "application/json"],
        skills=[_SKILL],
    )


def extended_card(base: str, version: str, skills: Mapping[str, str]) -> AgentCard:
    """The card with the team's capabilities: ``skills`` are their names with what each means."""
    card = public_card(base, version)
    card.skills.extend(
        AgentSkill(id=name, name=name, description=description, tags=[name]) for name, description in skills.items()
    )
    return card
