"""``[rates]``: how often the API may be asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RatesSection(BaseModel):
    """``[rates]``: how often the API may be asked; with Redis all processes count together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_per_minute: float | None = Field(
        default=6_000.0, gt=0, description="Reads a minute with one key, token or session; a change counts as five."
    )
    tenant_per_minute: float | None = Field(
        default=30_000.0, gt=0, description="The same for all of a tenant together."
    )
    refusals_per_minute: float | None = Field(
        default=30.0, gt=0, description="Failed attempts to be let in, a minute and address."
    )
    concurrent: int | None = Field(
        default=200, ge=1, description="Requests of one tenant that are answered at the same time, in each process."
    )
    routes: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description='Calls a minute with one key, by method and beginning of the path: `"POST /v1/runs"`.'
    )
