"""``[webhooks]``: what others are told of events."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator


class WebhooksSection(BaseModel):
    """``[webhooks]``: messages to addresses that tenants have named at `/v1/webhooks`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    send: bool = Field(
        default=True, description="Whether `serve` sends them; of several processes that do, one at a time."
    )
    networks: list[str] = Field(
        default=[],
        description="Networks that may be reached although they are not public, such as `10.1.0.0/16`; "
        "`127.0.0.0/8` for tests, which allows plain http to it too.",
    )

    @field_validator("networks")
    @classmethod
    def _check_networks(cls, value: list[str]) -> list[str]:
        for one in value:
            ip_network(one)
        return value
