"""Settings: one ``collegium.toml``, the environment, the command line; the later wins.

Secrets (provider keys) are never settings: they are read from the environment, or from files that a setting names.
Reference: ``docs/reference/configuration.md``.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec
from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from collegium.config.auth import AuthSection, OidcSection
from collegium.config.encryption import EncryptionSection
from collegium.config.rates import RatesSection
from collegium.config.sections import (
    AccountSection,
    AgentsSection,
    ApprovalsSection,
    BusSection,
    InputsSection,
    JournalSection,
    LimitsSection,
    ModelsSection,
    OversightSection,
    PostgresSection,
    PriceSetting,
    ProfileSetting,
    RateSetting,
    RunLimitsSection,
    ServerSection,
    ShardSetting,
    WorkerSection,
)
from collegium.config.webhooks import WebhooksSection
from collegium.domain.errors import UsageError

__all__ = [
    "FILENAME",
    "KEY_VARIABLES",
    "PREFIX",
    "AccountSection",
    "AgentsSection",
    "ApprovalsSection",
    "AuthSection",
    "BusSection",
    "EncryptionSection",
    "InputsSection",
    "JournalSection",
    "LimitsSection",
    "ModelsSection",
    "OidcSection",
    "OversightSection",
    "PostgresSection",
    "PriceSetting",
    "ProfileSetting",
    "RateSetting",
    "RatesSection",
    "RunLimitsSection",
    "ServerSection",
    "Setting",
    "Settings",
    "ShardSetting",
    "WebhooksSection",
    "WorkerSection",
    "default_data_dir",
    "explain",
    "load_settings",
    "mask",
    "shown_url",
]

FILENAME = "collegium.toml"
PREFIX = "COLLEGIUM_"
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_COMPATIBLE_API_KEY")
KEY_VARIABLES = (*_KEYS, *(f"{k}_FILE" for k in _KEYS))
"""Environment variables that hold a provider's keys, or name the file that does; shown masked, never stored."""
_BY_NAME = (
    "models.prices", "models.profiles", "models.rates", "limits.tasks_of", "bus.weights", "auth.oidc.roles",
    "encryption.kms_options",
)  # fmt: skip

_PATHS = (
    (("agents",), "files"), (("journal",), "chain_key_file"), (("auth",), "pepper_file"),
    (("auth", "oidc"), "client_secret_file"), (("encryption",), "kek_file"), (("encryption",), "previous_kek_files"),
    (("server",), "tls_cert"), (("server",), "tls_key"), (("server",), "tls_client_ca"),
)  # fmt: skip


class Settings(BaseSettings):
    """Everything that can be configured.

    Built directly, it reads nothing; ``load_settings`` reads file and environment.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    data_dir: Path = Field(
        default_factory=lambda: default_data_dir(os.environ),
        description="Folder of everything collegium keeps: store, models, work folders, logs.",
    )
    store: str = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir']}/collegium.db",
        description="Where runs are kept; `DATABASE_URL` is honoured too.",
    )
    redis: str | None = Field(
        default=None,
        description="Redis for bus, cache and shared rates: `redis://:PASSWORD@HOST:6379/0`; `REDIS_URL` is honoured.",
    )
    model: str | None = Field(
        default=None,
        description="Model for goals that name none; without one it is chosen by the keys and servers that are there.",
    )
    agents: AgentsSection = AgentsSection()
    inputs: InputsSection = InputsSection()
    worker: WorkerSection = WorkerSection()
    server: ServerSection = ServerSection()
    models: ModelsSection = ModelsSection()
    approvals: ApprovalsSection = ApprovalsSection()
    limits: LimitsSection = LimitsSection()
    oversight: OversightSection = OversightSection()
    journal: JournalSection = JournalSection()
    postgres: PostgresSection = PostgresSection()
    bus: BusSection = BusSection()
    rates: RatesSection = RatesSection()
    webhooks: WebhooksSection = WebhooksSection()
    auth: AuthSection = AuthSection()
    encryption: EncryptionSection = EncryptionSection()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _keys: dict[str, str] = PrivateAttr(default_factory=dict)
    _config_file: Path | None = PrivateAttr(default=None)

    @property
    def config_file(self) -> Path | None:
        """The file that was read, or None."""
        return self._config_file

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: ``load_settings`` merges the layers and remembers where each value comes from."""
        return (init_settings,)


class Setting(NamedTuple):
    """One line of ``collegium config show``; secrets are masked."""

    key: str
    value: object
    source: str


def load_settings(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings in force.

    Args:
        config: The file; without it ``COLLEGIUM_CONFIG``, else ``collegium.toml`` in the current folder, if any.
        environ: The environment. ``COLLEGIUM_SECTION__KEY`` overrides a key of the file.
        overrides: Values that win over all, by dotted key (``models.cache``).

    Raises:
        UsageError: the file cannot be read, or a key or value in one of the places is wrong; every one is named.
    """
    path = _config_path(config, environ)
    layers: list[tuple[str, dict[str, Any]]] = []
    if path is not None:
        layers.append((path.name, _rebased(_read(path), path.parent)))
    layers.append(("the environment", _from_environ(environ)))
    layers.append(("the command line", _nested(overrides or {})))
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, layer in layers:
        _merge(merged, layer)
        sources |= {key: _named(name, key, environ) for key in _leaves(layer)}
    if not isinstance(merged.get("data_dir", ""), (str, Path)):
        raise UsageError(f"data_dir = {merged['data_dir']!r}: it should be the path of a folder")
    merged["data_dir"] = Path(merged.get("data_dir") or default_data_dir(environ)).expanduser().absolute()
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _refused(error, sources, path) from error
    beside = sorted((path.parent / "agents").glob("*.toml")) if path is not None else []
    files = [*beside, *(f for f in settings.agents.files if f.resolve() not in {b.resolve() for b in beside})]
    settings = settings.model_copy(update={"agents": AgentsSection(files=files)})
    if beside:
        sources.setdefault("agents.files", f"agents/ beside {FILENAME}")
    settings._sources = sources  # noqa: SLF001  our own attribute, which no caller may set
    settings._keys = {k: environ[k].strip() for k in KEY_VARIABLES if environ.get(k, "").strip()}  # noqa: SLF001
    settings._config_file = path  # noqa: SLF001
    return settings


def explain(settings: Settings) -> tuple[Setting, ...]:
    """Every effective value with where it comes from, in the order of the reference; secrets are masked."""
    sources = settings._sources  # noqa: SLF001  see load_settings
    rows = [Setting("config", str(settings.config_file or ""), "found" if settings.config_file else "there is none")]
    for key, value in _leaves(settings.model_dump(mode="json")).items():
        rows.append(Setting(key, _shown(value), sources.get(key, "default")))
    rows += [Setting(k, _mask_keys(k, v), "the environment") for k, v in settings._keys.items()]  # noqa: SLF001
    return tuple(rows)


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """The folder for a user's data on this platform.

    Source: XDG Base Directory Specification 0.8 (``$XDG_DATA_HOME``, absolute paths only); Apple's File System Guide.
    """
    home = Path(environ.get("HOME") or Path.home())
    xdg = environ.get("XDG_DATA_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg) / "collegium"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "collegium"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "collegium"
    return home / ".local" / "share" / "collegium"


def mask(secret: str) -> str:
    """``secret`` as it may be shown: its last four characters, where it is long enough to keep the rest."""
    return f"****{secret[-4:]}" if len(secret) >= 16 else "****"


def shown_url(url: str) -> str:
    """``url`` without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:****@{host}"))


def _shown(value: object) -> object:
    """``value`` with the passwords taken out of all URLs in it."""
    if isinstance(value, str):
        return shown_url(value) if "://" in value else value
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list) else value


def _mask_keys(variable: str, value: str) -> str:
    """The keys in a variable, each masked; the path of a file of keys is no secret."""
    return value if variable.endswith("_FILE") else ", ".join(mask(k.strip()) for k in value.split(",") if k.strip())


def _config_path(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = config or (Path(environ["COLLEGIUM_CONFIG"]) if environ.get("COLLEGIUM_CONFIG") else None)
    if named is None:
        found = Path(FILENAME).absolute()
        return found if found.is_file() else None
    if not named.expanduser().is_file():
        raise UsageError(
            f"there is no configuration file {named}: check --config or COLLEGIUM_CONFIG; `collegium init` makes one",
            path=str(named),
        )
    return named.expanduser().absolute()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", path=str(path)) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error


def _rebased(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``table`` with its relative paths made relative to the file they stand in, not to where one happens to be."""

    def rebase(value: Any) -> Any:
        return str(folder / Path(value).expanduser()) if isinstance(value, str) else value

    if "data_dir" in table:
        table["data_dir"] = rebase(table["data_dir"])
    for section, name in _PATHS:
        place = table
        for part in section:
            place = place[part] if isinstance(place.get(part), dict) else {}
        if isinstance(place.get(name), list):
            place[name] = [rebase(f) for f in place[name]]
        elif name in place:
            place[name] = rebase(place[name])
    return table


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    for name in environ:
        section, separator, _ = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and separator and section.lower() not in Settings.model_fields:
            near = difflib.get_close_matches(section.lower(), list(Settings.model_fields), n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}__...?" if near else ""
            raise UsageError(f"{name} names the section {section.lower()!r}, which does not exist{hint}", variable=name)
    source = EnvSettingsSource(Settings)
    # The source reads os.environ by itself; which environment counts is for the caller to say.
    source.env_vars = {name.lower(): value for name, value in environ.items() if value}
    try:
        values = source()
    except SettingsError as error:
        raise UsageError(
            f"a {PREFIX} variable cannot be read: {error}; tables and lists are written as JSON"
        ) from error
    if "store" not in values and environ.get("DATABASE_URL"):
        values["store"] = environ["DATABASE_URL"]
    if "redis" not in values and environ.get("REDIS_URL"):
        values["redis"] = environ["REDIS_URL"]
    return values


def _nested(dotted: Mapping[str, object]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in dotted.items():
        *sections, name = key.split(".")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return table


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Values by dotted key; the tables by model name count as one value each."""

    def walk(items: Mapping[str, Any], before: str) -> Iterator[tuple[str, object]]:
        for key, value in items.items():
            name = f"{before}{key}"
            if isinstance(value, dict) and name not in _BY_NAME:
                yield from walk(value, f"{name}.")
            else:
                yield name, value

    return dict(walk(table, prefix))


def _named(layer: str, key: str, environ: Mapping[str, str]) -> str:
    """Where exactly a value comes from, so that it can be found and changed."""
    if layer != "the environment":
        return layer
    variable = PREFIX + key.upper().replace(".", "__")
    if variable in environ:
        return variable
    return {"store": "DATABASE_URL", "redis": "REDIS_URL"}.get(key, "the environment")


def _refused(error: ValidationError, sources: Mapping[str, str], path: Path | None) -> UsageError:
    """Every problem as one sentence: where it stands, what is wrong, what to write instead."""
    known = list(_leaves(Settings(data_dir=Path("/")).model_dump()))
    sentences = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        found = (s for k, s in sources.items() if f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}."))
        where = f"{source}: " if (source := next(found, "")) else ""
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, [*known, *Settings.model_fields], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            if any(word in key.lower() for word in ("key", "token", "secret", "password")) and not near:
                hint = "; keys are read from the environment only (OPENAI_API_KEY, ANTHROPIC_API_KEY ...)"
            sentences.append(f"{where}there is no setting {key!r}{hint}")
        else:
            given = msgspec.json.encode(_shown(problem["input"]), enc_hook=str).decode()
            reason = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
            sentences.append(f"{where}{key} = {given}: it {reason}")
    return UsageError("; ".join(sentences), path=None if path is None else str(path))
