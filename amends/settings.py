"""Every setting of Amends, read from the environment (`AMENDS_...`) in this one place."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from amends.errors import StartupError

__all__ = ["Settings"]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last for a folder of zones, such as Europe
        raise ValueError(f"{name!r} is no time zone of the IANA list, such as UTC or Europe/Berlin") from None
    return name


def _postgres(url: SecretStr) -> SecretStr:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url.get_secret_value())
        [int(port) for port in str(parts.get("port", 0)).split(",") if port]
    except (ProgrammingError, ValueError):  # from None: what they say may hold parts of a password
        raise ValueError("no address of a PostgreSQL, such as postgresql://login@localhost:5432/database") from None
    return url


class _Files(PydanticBaseSettingsSource):
    """What stands in files that the environment names, `AMENDS_…_FILE`: so container platforms hand secrets over."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"AMENDS_{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if path is None:
            return None, field_name, False
        if variable in os.environ:
            raise StartupError(f"{variable} and {variable}_FILE are both set; one of them is enough")
        try:
            return Path(path).read_text().strip(), field_name, False
        except (OSError, UnicodeError) as error:
            told = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise StartupError(f"{variable}_FILE: {path} can't be read: {told}") from None

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What an operator can set; each field is the environment variable `AMENDS_` + its name in capitals.

    `AMENDS_…_FILE` names a file that holds it instead, as container platforms mount secrets.
    """

    model_config = SettingsConfigDict(env_prefix="AMENDS_", frozen=True, extra="ignore")

    app: str = Field("app:app", description="Where the application's table of contents is: `module:name`.")
    home: Path = Field(Path(".amends"), description="Folder of the embedded servers' data.")

    database_url: Annotated[SecretStr, AfterValidator(_postgres)] | None = Field(
        None,
        description="A PostgreSQL of your own, and a login that may act as the roles a process needs (or owns the "
        "schema); without it the embedded one is used.",
    )
    owner_url: Annotated[SecretStr, AfterValidator(_postgres)] | None = Field(
        None,
        description="The same database by a login that owns the schema, for what changes it: `amends migrate`, builds "
        "of read models, `amends restore`. Without it, database_url is that.",
    )
    postgres_port: int = Field(0, ge=0, le=65535, description="Port of the embedded PostgreSQL; 0 takes a free one.")
    pool_size: int = Field(16, ge=1, le=500, description="Most database connections of a process and role.")

    temporal_address: str | None = Field(
        None, description="host:port of a Temporal server of your own; without it the embedded one is used."
    )
    temporal_namespace: str = Field("default", description="Temporal namespace of all sagas.")
    temporal_port: int = Field(7233, ge=0, le=65535, description="Port of the embedded Temporal; 0 takes a free one.")
    temporal_ui_port: int = Field(8233, ge=0, le=65535, description="Port of its Web UI; 0 takes a free one.")
    temporal_ui: str | None = Field(None, description="Address of the Web UI of a Temporal server of your own.")
    task_queue: str = Field("amends", description="Task queue that workers poll and clients use.")
    deployment: str | None = Field(
        None,
        pattern=r"^[^.:'\s]+$",
        description="Name of the workers' deployment; set with build_id, sagas stay with the version they began on.",
    )
    build_id: str | None = Field(
        None, pattern=r"^[^'\s]+$", description="Version of the code that this worker runs, e.g. a commit."
    )

    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="IANA time zone in which read models tell one day from the next; a change rebuilds them."
    )
    source_url: SecretStr | None = Field(
        None, description="Database of another system whose tables are followed: `amends follow`."
    )

    payload_keys: SecretStr | None = Field(
        None,
        description="Keys that encrypt what Temporal stores, `id:key,id:key`, 32 bytes in base64 each; the first one "
        "encrypts, all decrypt.",
    )
    codec_token: SecretStr | None = Field(
        None, description="What people show to see encrypted payloads in clear: `amends codec`."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Shared secret with which an outside service signs its webhooks."
    )

    mount: Literal["as_written", "inline", "child"] = Field(
        "as_written", description="Forces sub-processes into the parent's history or into one of their own."
    )
    answer_seconds: float = Field(60.0, gt=0, description="How long a client waits for a worker's answer.")
    cache_seconds: float = Field(
        0.0, ge=0, description="How long a client may keep an answer that nothing has changed; 0 keeps none."
    )
    cache_entries: int = Field(1000, ge=1, description="How many answers a client keeps at most.")
    drain_seconds: float = Field(30.0, gt=0, description="How long a worker may finish its work after SIGTERM.")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log shown.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is handed in, then the environment, then the files that it names."""
        return init_settings, env_settings, _Files(settings_cls)

    @property
    def owner(self) -> SecretStr | None:
        """Address of the database by the login that changes the schema; None where no database is set."""
        return (self.owner_url or self.database_url) if self.database_url is not None else None
