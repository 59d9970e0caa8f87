"""Every setting of Flexmesh, in one place: read from the environment, `.env` and secret files.

A setting `name` is the variable `MESH_NAME`; `MESH_NAME_FILE` names a file that holds its value instead.
The first of these that gives a value wins: an argument of `Settings(…)`, the variable, the file that
`MESH_…_FILE` names, the same two in `.env` of the working folder, then in `.env` of the project, the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mesh_core.errors import UsageError

PREFIX = "MESH_"
_PACKAGES = Path(__file__).resolve().parent.parent
ROOT = _PACKAGES if (_PACKAGES / "pyproject.toml").is_file() else Path.cwd()
"""The project's folder; the working folder where the engine is installed as a package."""


class MalformedSetting(UsageError):
    """A setting has a value that cannot be used."""


@dataclass(frozen=True)
class SettingRow:
    """One setting as shown to people: secrets are masked, an unset value is empty."""

    name: str
    variable: str
    value: str
    default: str
    description: str
    secret: bool


def _postgres_url(value: object) -> object:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(plain, str) and not plain.startswith(("postgresql://", "postgres://")):
        raise ValueError("it should start with postgresql://")
    return value


class Settings(BaseSettings):
    """All settings, checked. Immutable: derive another by `Settings(name=value)`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True, validate_default=False
    )

    database_url: Annotated[SecretStr | None, BeforeValidator(_postgres_url)] = Field(
        None,
        description="PostgreSQL 18 or newer, as `postgresql://user:password@host:port/name`; unset: local.",
    )
    database_pool_size: int = Field(10, ge=1, le=1000, description="Most connections that one process opens.")
    statement_timeout_seconds: float = Field(
        30.0, gt=0, description="Longest that one statement of a read may run in Postgres."
    )

    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, as `host:port`, comma-separated; unset: the local stack's."
    )
    kafka_driver: Literal["kafka-python", "confluent-kafka"] = Field(
        "kafka-python",
        description="Client that consumes; `confluent-kafka` is faster and needs the extra `fast`.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How to log in, where the protocol is one of SASL."
    )
    kafka_sasl_username: str | None = Field(None, description="User to log in as.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Password of that user.")
    kafka_ssl_cafile: Path | None = Field(
        None, description="PEM file of the authorities to trust; unset: the system's."
    )
    kafka_ssl_certfile: Path | None = Field(None, description="PEM file of the client's certificate.")
    kafka_ssl_keyfile: Path | None = Field(None, description="PEM file of the client's key.")

    catalog: str = Field(
        "projections.northwind",
        min_length=1,
        description="Importable modules, comma-separated, that declare events, entities and views.",
    )
    topic_partitions: int = Field(
        6, ge=1, le=10_000, description="Partitions of a topic that Flexmesh creates."
    )
    topic_replication: int = Field(1, ge=1, le=32, description="Replicas of a topic that Flexmesh creates.")

    group: str = Field(
        "flexmesh", min_length=1, description="Consumer group by which projectors share partitions."
    )
    projector_batch_min: int = Field(
        5_000,
        ge=1,
        description="Smallest bound on records in a transaction; it grows from here with the lag.",
    )
    projector_batch_max: int = Field(
        70_000,
        ge=1,
        description="Most records in one transaction; more of them gain little, and take memory.",
    )
    build_processes: int = Field(
        2,
        ge=1,
        le=64,
        description="Most processes that read history for a build; fewer leave more to what serves.",
    )
    archive: Path | None = Field(
        None,
        description="Folder of `mesh events export`, which builds and replays read before what topics still have.",
    )
    replay_processes: int = Field(
        1, ge=1, le=64, description="Most processes that read history for a replay; what serves goes first."
    )
    replay_disk: int = Field(
        20 * 2**30, ge=1, description="Most bytes on disk that the tables of a replay may take."
    )
    projector_poll_seconds: float = Field(
        0.5, gt=0, le=60, description="Longest that a poll waits for records."
    )
    projector_instance_id: str | None = Field(
        None,
        description="Static membership: a name of this projector alone, so that its restart is no rebalance.",
    )
    projector_metrics_port: int = Field(
        9108, ge=0, le=65535, description="Loopback port of the projector's /metrics and /readyz; 0: none."
    )
    fan_out_limit: int = Field(
        25_000,
        ge=1,
        description="Rows of a view past which a change of one neighbour is queued, and they follow bit by bit.",
    )
    dead_letter_limit: int = Field(
        10_000, ge=0, description="Dead letters of one topic past which the projector halts it."
    )

    relay_outboxes: SecretStr | None = Field(
        None,
        description="Outboxes that `mesh relay` publishes, one a line or after white space: "
        "`SERVICE=postgresql://…[#[schema.]table]`.",
    )
    relay_retention_seconds: float = Field(
        86_400.0, ge=0, description="How long rows stay in an outbox after they are published."
    )
    relay_metrics_port: int = Field(
        9109, ge=0, le=65535, description="Loopback port of the relay's /metrics and /readyz; 0: none."
    )

    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on; 0: any free one.")
    page_limit_default: int = Field(100, ge=1, description="Rows in a page, where a request does not say.")
    page_limit_max: int = Field(1000, ge=1, description="Most rows in a page that a request may ask for.")

    stream_rows_max: int = Field(
        10_000_000, ge=1, le=10**9, description="Most rows of an answer as NDJSON or CSV."
    )
    query_conditions_max: int = Field(100, ge=1, le=1000, description="Most conditions in a request.")
    query_depth_max: int = Field(
        8, ge=1, le=50, description="Most parentheses within each other in a filter."
    )
    query_list_max: int = Field(1000, ge=1, le=100_000, description="Most values in a list of a filter.")
    url_bytes_max: int = Field(
        16_384, ge=512, le=65_536, description="Longest URL, as bytes of its path and its parameters."
    )
    body_bytes_max: int = Field(
        262_144, ge=1024, le=2**30, description="Largest body of a request, in bytes."
    )
    ingest_bytes_max: int = Field(
        4_194_304, ge=1024, le=2**30, description="Largest body of events, in bytes."
    )
    ingest_queue_max: int = Field(
        10_000, ge=1, description="Most events that wait for Kafka at an API process; more are refused."
    )
    ingest_window_seconds: float = Field(
        3600.0, ge=60, description="How long an event that is sent again is known by its source and id."
    )
    read_wait_max_seconds: float = Field(
        30.0, ge=0, le=600, description="Longest that a read waits for a position (`Prefer: wait=SECONDS`)."
    )
    history_events: int = Field(
        1_000_000, ge=1, description="Most records of the log that the API reads for the history of a row."
    )
    history_seconds: float = Field(
        30.0, gt=0, le=3600, description="Longest that the API takes to tell the history of a row."
    )
    cursor_key: SecretStr | None = Field(
        None,
        description="Signs the cursors of pages; unset: made of the database's URL. All API processes need the same.",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose pages may read the API, as `https://app.example`, comma-separated; `*`: any.",
    )

    auth_key: SecretStr | None = Field(
        None,
        description="Verifies tokens: a shared secret of at least 32 bytes, or a public key as PEM; unset: none, or that of "
        "the local stack.",
    )
    auth_jwks_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Where the issuer of tokens tells its keys; they are asked for again when a token names another.",
    )
    auth_algorithms: str = Field(
        "",
        description="Algorithms of tokens, comma-separated, all of one family; unset: HS256 with a shared secret, else RS256.",
    )
    auth_issuer: str = Field("flexmesh", min_length=1, description="What `iss` of every token must be.")
    auth_audience: str = Field(
        "flexmesh", min_length=1, description="What `aud` of every token must be, or have."
    )
    auth_leeway_seconds: float = Field(
        10.0, ge=0, le=60, description="By how much clocks may differ, for `exp` and `nbf` of tokens."
    )
    auth_roles_claim: str = Field(
        "roles",
        min_length=1,
        description="The claim that lists the roles; `realm_access.roles` leads into an object.",
    )
    auth_anonymous_role: str | None = Field(
        None, description="The role of whoever sends no token; unset: such are refused."
    )
    request_rate: str = Field(
        "",
        description="Most requests of one subject, and of one address without a token, at each API process, as `600/minute`; "
        "unset: any.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line to log."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: readable on a terminal, JSON elsewhere."
    )
    stack_dir: Path = Field(
        Path(".mesh/stack"), description="Folder of the local Kafka and Postgres; relative to the project's."
    )

    def __init__(self, **values: Any) -> None:
        """`values` win over the environment. Raises MalformedSetting, naming each variable at fault."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _readable(error) from None

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "MESH_KAFKA_SECURITY_PROTOCOL needs MESH_KAFKA_SASL_USERNAME and MESH_KAFKA_SASL_PASSWORD"
            )
        if self.page_limit_default > self.page_limit_max:
            raise ValueError("MESH_PAGE_LIMIT_DEFAULT is more than MESH_PAGE_LIMIT_MAX")
        if self.auth_jwks_url is not None:
            if self.auth_key is not None:
                raise ValueError(
                    "MESH_AUTH_KEY and MESH_AUTH_JWKS_URL are both set; tokens are verified by one"
                )
            if not {"auth_issuer", "auth_audience"} <= self.model_fields_set:
                raise ValueError("MESH_AUTH_JWKS_URL needs MESH_AUTH_ISSUER and MESH_AUTH_AUDIENCE")
        told = "projector_batch_min" in self.model_fields_set
        if told and self.projector_batch_min > self.projector_batch_max:
            raise ValueError("MESH_PROJECTOR_BATCH_MIN is more than MESH_PROJECTOR_BATCH_MAX")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values, then our one reader of the environment, `.env` and secret files."""
        return init_settings, _Environment(settings_cls)

    @property
    def catalog_modules(self) -> tuple[str, ...]:
        """The names in `catalog`, in order."""
        return tuple(name.strip() for name in self.catalog.split(",") if name.strip())

    @property
    def stack_path(self) -> Path:
        """`stack_dir`, absolute."""
        return ROOT / self.stack_dir

    def describe(self) -> list[SettingRow]:
        """Every setting with its value and default, secrets masked, in the order of declaration."""
        rows = []
        for name, field in type(self).model_fields.items():
            secret = SecretStr in get_args(field.annotation) or field.annotation is SecretStr
            value = getattr(self, name)
            rows.append(
                SettingRow(
                    name=name,
                    variable=PREFIX + name.upper(),
                    value="" if value is None else str(value),
                    default="" if field.default is None else str(field.default),
                    description=field.description or "",
                    secret=secret,
                )
            )
        return rows


def dotenv_files() -> tuple[Path, ...]:
    """The `.env` files that are read, first wins; they need not exist."""
    return (Path.cwd() / ".env", ROOT / ".env")


class _Environment(PydanticBaseSettingsSource):
    """Reads `MESH_NAME` and `MESH_NAME_FILE` from the environment, then from both `.env` files."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = PREFIX + field_name.upper()
        for place in self._places:
            if place.get(variable):
                return place[variable], field_name, False
            if path := place.get(f"{variable}_FILE"):
                return _content(variable, path), field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        self._places: tuple[Mapping[str, str | None], ...] = (
            os.environ,
            *(dotenv_values(file) for file in dotenv_files()),
        )
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MalformedSetting(
            f"{variable}_FILE names {path}, which cannot be read: {reason}.",
            remedy="Name a readable file that holds nothing but the value.",
        ) from None


def _readable(error: ValidationError) -> MalformedSetting:
    faults = [_fault(detail) for detail in error.errors(include_url=False, include_context=False)]
    return MalformedSetting(
        "; ".join(faults) + ".",
        remedy="Correct it in the environment or in .env (docs/reference/settings.md).",
    )


def _fault(detail: ErrorDetails) -> str:
    cause = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return cause
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return f"there is no setting {name}"
    secret = "Secret" in str(Settings.model_fields[name].annotation)
    shown = "" if secret else f" is {str(detail['input'])!r}"
    return f"{PREFIX}{name.upper()}{shown}: {cause[0].lower()}{cause[1:]}"


def load_settings(**overrides: Any) -> Settings:
    """The settings as they are now: nothing is kept between calls. Raises MalformedSetting."""
    return Settings(**overrides)
