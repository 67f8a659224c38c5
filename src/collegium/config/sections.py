"""The sections of ``collegium.toml``: one class per table, every key with its meaning and bounds."""

from __future__ import annotations

from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AgentsSection(_Section):
    """``[agents]``: who there is beside the built-in team."""

    files: list[Path] = Field(
        default=[],
        description="TOML files that declare agents; `agents/*.toml` beside the configuration file are read too.",
    )


class InputsSection(_Section):
    """``[inputs]``: what ``--files`` may bring."""

    max_files: int = Field(default=20_000, ge=1, description="More files than this are refused as a whole.")
    max_file_bytes: int = Field(
        default=52_428_800, ge=1, description="A larger file is skipped, with the reason in the report."
    )


class WorkerSection(_Section):
    """``[worker]``: how much one process does at once."""

    concurrency: int = Field(default=64, ge=1, le=10_000, description="Tasks one process works on at the same time.")
    capabilities: list[str] = Field(
        default=[], description="Only tasks that ask for one of these; empty for all that the agents have."
    )
    lease_s: float = Field(
        default=10.0, ge=0.2, description="A worker that gave no sign of life for so long loses its tasks to others."
    )
    grace_s: float = Field(
        default=10.0, ge=0, description="So long the end of a worker waits for writes of tools that have begun."
    )
    start_patience_s: float | None = Field(
        default=None,
        ge=0,
        description="A process that serves or works waits so long for stores that are away as it starts, then ends "
        "with 5; for ever by default.",
    )
    health_host: str = Field(
        default="127.0.0.1", min_length=1, description="Address of the health port; 0.0.0.0 in a container."
    )
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port on which `collegium worker` answers /healthz, /readyz and /metrics; by default none.",
    )


class ServerSection(_Section):
    """``[server]``: what `collegium serve` listens on, and how many workers it has."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8420, ge=0, le=65_535, description="Port to listen on; 0 for any free one.")
    workers: int = Field(default=1, ge=0, le=1_024, description="Worker processes that are kept running; 0 for none.")
    health_only: bool = Field(
        default=False,
        description="Answer /healthz, /readyz and /metrics only: needs no keys, also beyond this machine.",
    )
    request_timeout_s: float = Field(
        default=60.0,
        gt=0,
        le=3_600,
        description="A request that is not answered after so long gets 504, and goes on; streams may last.",
    )
    trusted_proxies: list[str] = Field(
        default=[],
        description="Addresses and networks of proxies that are believed when they say for whom they ask "
        "(X-Forwarded-For, X-Forwarded-Proto).",
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate and its chain (PEM): `serve` then answers https alone."
    )
    tls_key: Path | None = Field(default=None, description="Private key of `tls_cert` (PEM).")
    tls_client_ca: Path | None = Field(
        default=None, description="Authorities (PEM), by one of which every client has to be certified (mTLS)."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: list[str]) -> list[str]:
        for one in given:
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(f"{one!r} is neither an address nor a network of addresses: {error}") from None
        return given

    @model_validator(mode="after")
    def _is_whole(self) -> ServerSection:
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and self.tls_cert is None):
            raise ValueError("tls_cert and tls_key go together, and tls_client_ca needs both")
        return self


class ShardSetting(_Section):
    """One more store for runs."""

    url: str = Field(min_length=1)
    number: int | None = Field(default=None, ge=1, le=255)
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    replica: str | None = None


class PostgresSection(_Section):
    """``[postgres]``: a store in PostgreSQL."""

    pool: int = Field(default=4, ge=1, le=200, description="Connections for reading, per process; one more writes.")
    patience_s: float = Field(
        default=10.0, ge=0, description="So long the server may be away before what waits for it fails."
    )
    migrate: Literal["command", "start"] = Field(
        default="command",
        description="Older tables are brought up to date by `collegium migrate`, or by whoever starts; new ones are "
        "always made at the start.",
    )
    replica: str | None = Field(
        default=None, description="URL of a read replica of `store`: lists of runs are read there, nothing else."
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Share of new runs that `store` itself takes where there are shards; 0 for none.",
    )
    shards: list[ShardSetting] = Field(
        default=[],
        description="More databases for runs, beside `store`: URLs, or tables with `url`, `number` (1 to 255, for "
        "ever; else by place in the list), `weight` (0 takes no new runs), `replica`.",
    )

    @field_validator("shards", mode="before")
    @classmethod
    def _tables(cls, given: object) -> object:
        return [{"url": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else given

    @field_validator("shards")
    @classmethod
    def _numbered(cls, shards: list[ShardSetting]) -> list[ShardSetting]:
        numbers = [place if one.number is None else one.number for place, one in enumerate(shards, start=1)]
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        if twice:
            raise ValueError(f"gives the number {twice[0]} to two shards")
        if max(numbers, default=0) > 255:
            raise ValueError(f"has a shard {max(numbers)}, and 255 is the highest number")
        return [one.model_copy(update={"number": n}) for n, one in zip(numbers, shards, strict=True)]


class BusSection(_Section):
    """``[bus]``: messages between agents and processes."""

    weights: dict[str, Annotated[float, Field(ge=0.001, le=1_000)]] = Field(
        default={}, description="Weight by tenant: weight 2 gets twice the turns of weight 1, the default."
    )
    aging_s: float = Field(default=60.0, gt=0, description="A message that waits gains one step of priority each time.")
    max_deliveries: int = Field(
        default=10, ge=1, description="A message whose consumers fell silent so often becomes a dead letter."
    )
    max_bytes: int = Field(default=1_048_576, ge=1_024, description="A larger message is refused.")
    max_waiting: int = Field(
        default=1_000_000, ge=1, description="With so many messages waiting, a topic takes no more."
    )
    keep: int = Field(default=10_000, ge=0, description="Messages of a topic that are kept to be read again.")
    keep_s: float = Field(default=604_800.0, gt=0, description="Age at which messages go.")


class PriceSetting(_Section):
    """What a model costs, in US dollars for a million tokens."""

    input_usd: Decimal = Field(ge=0)
    output_usd: Decimal = Field(ge=0)


class ProfileSetting(_Section):
    """What is known better of a model than collegium guesses; what is left out stays as guessed."""

    tool_mode: Literal["native", "schema", "none"] | None = None
    can_plan: bool | None = None
    can_write: bool | None = None
    context_tokens: int | None = Field(default=None, ge=256)
    max_output_tokens: int | None = Field(default=None, ge=16)


class RateSetting(_Section):
    """What a provider allows; what is left out is not limited."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    concurrent: int | None = Field(default=None, ge=1)


class ModelsSection(_Section):
    """``[models]``: how models are called."""

    max_attempts: int = Field(default=4, ge=1, le=20, description="Tries of one call, the first included.")
    timeout_s: float = Field(default=600.0, gt=0, description="A hosted model's call is given up after so long.")
    other: str | None = Field(
        default=None, description="Model that is asked where the usual one has failed at a task for good, or twice."
    )
    cache: bool = Field(default=False, description="Keep replies, and answer the same request again from there.")
    idle_s: float = Field(default=300.0, gt=0, description="A local model's server ends when not asked for so long.")
    context_tokens: int | None = Field(
        default=None, ge=256, description="Context of local models; by default 4,096, from a billion weights on 8,192."
    )
    prices: dict[str, PriceSetting] = Field(
        default={},
        description="Price by model name, in US dollars for a million tokens: `input_usd`, `output_usd`.",
    )
    rates: dict[str, RateSetting] = Field(
        default={},
        description="What a provider allows, by model name or pattern (`openai:*`): `requests_per_minute` and "
        "`tokens_per_minute` of each key, `concurrent` calls over all keys. Models of one pattern share it; with Redis "
        "all processes do.",
    )
    profiles: dict[str, ProfileSetting] = Field(
        default={},
        description="Abilities by model name or pattern: `tool_mode`, `can_plan`, `can_write`, `context_tokens`, "
        "`max_output_tokens`.",
    )


class ApprovalsSection(_Section):
    """``[approvals]``: what a person is asked before it is done."""

    tools: list[str] = Field(
        default=[], description="Names and patterns (`send_*`) of tools whose every call a person has to allow."
    )
    expires_s: float | None = Field(default=None, gt=0, description="An answer is waited for so long; then `default`.")
    default: Literal["approve", "reject"] = Field(default="reject", description="The answer when nobody gave one.")
    four_eyes: bool = Field(default=False, description="Whoever asked for the run may not answer.")
    assignee: str | None = Field(default=None, description="The only one who may answer.")


class OversightSection(_Section):
    """``[oversight]``: how answers are checked."""

    escalate: bool = Field(
        default=False, description="Ask a person about answers with sentences that the evidence does not bear out."
    )


class JournalSection(_Section):
    """``[journal]``: the runs' journals."""

    chain_key_file: Path | None = Field(
        default=None,
        description="File with the secret key of the journal's chain; without one it shows accidents, not forgery.",
    )


class RunLimitsSection(_Section):
    """``[limits.run]``: limits of goals that bring none; an option of `collegium run` wins."""

    usd: Decimal | None = Field(default=None, ge=0, description="US dollars.")
    tokens: int | None = Field(default=None, ge=1, description="Input and output tokens together.")
    input_tokens: int | None = Field(default=None, ge=1, description="Input tokens.")
    output_tokens: int | None = Field(default=None, ge=1, description="Output tokens.")
    tool_calls: int | None = Field(default=None, ge=1, description="Calls of tools.")
    deadline_s: float | None = Field(default=None, gt=0, description="Seconds from its acceptance.")
    steps_per_task: int = Field(default=24, ge=1, description="Model calls of one task.")
    tasks: int = Field(default=64, ge=1, description="Tasks of a plan.")
    parallel: int | None = Field(default=None, ge=1, description="Tasks worked on at the same time.")


class AccountSection(_Section):
    """What may be taken in a day and in a month (UTC)."""

    day_usd: Decimal | None = Field(default=None, ge=0, description="US dollars a day.")
    day_tokens: int | None = Field(default=None, ge=0, description="Input and output tokens together, a day.")
    day_input_tokens: int | None = Field(default=None, ge=0, description="Input tokens a day.")
    day_output_tokens: int | None = Field(default=None, ge=0, description="Output tokens a day.")
    day_tool_calls: int | None = Field(default=None, ge=0, description="Calls of tools a day.")
    month_usd: Decimal | None = Field(default=None, ge=0, description="US dollars a month.")
    month_tokens: int | None = Field(default=None, ge=0, description="Input and output tokens together, a month.")
    month_input_tokens: int | None = Field(default=None, ge=0, description="Input tokens a month.")
    month_output_tokens: int | None = Field(default=None, ge=0, description="Output tokens a month.")
    month_tool_calls: int | None = Field(default=None, ge=0, description="Calls of tools a month.")


class LimitsSection(_Section):
    """``[limits]``: caps that hold before each call."""

    run: RunLimitsSection = RunLimitsSection()
    tenant: AccountSection = Field(default=AccountSection(), description="What each tenant may take.")
    user: AccountSection = Field(default=AccountSection(), description="What each user of a tenant may take.")
    agent: AccountSection = Field(default=AccountSection(), description="What each agent of a tenant may take.")
    tenant_tasks: int | None = Field(
        default=None, ge=1, description="Tasks of one tenant that are worked on at once, in all processes together."
    )
    tasks_of: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="The same for single tenants, by name; it wins over `tenant_tasks`."
    )
    ask_depth: int = Field(
        default=3,
        ge=0,
        description="Questions of agents to colleagues that may wait for each other; 0: agents may ask nobody.",
    )
    slice_share: float = Field(
        default=0.05, gt=0, le=1, description="A run without limits of its own sets aside this share of what is left."
    )
