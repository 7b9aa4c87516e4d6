"""Settings that all services share, from the environment; a service adds its own, from `DoorSettings`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ergonaut.errors import Broken


class PlatformSettings(BaseSettings):
    """Where the parts of the platform are. Every default is that of one machine, on loopback."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_", frozen=True, extra="ignore")

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="Address of NATS; change it to use a cluster.")
    nats_user: str = Field(default="", description="User at NATS; empty where NATS asks for none.")
    nats_password_file: Path | None = Field(default=None, description="File that holds the user's password, mode 0600.")
    temporal_address: str = Field(default="127.0.0.1:7233", description="Address of Temporal's front end, host:port.")
    temporal_namespace: str = Field(default="default", description="Temporal namespace to work in.")
    keys_file: Path | None = Field(
        default=None, description="File of API keys' digests; without one no call is let in but health."
    )
    service_key_file: Path | None = Field(
        default=None, description="File that holds the key with which services call each other, mode 0600."
    )
    data_dir: Path = Field(
        default=Path(".ergonaut/data"), description="Folder under which services keep caches and spools."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR; DEBUG tells each message and call."
    )
    otlp_endpoint: str = Field(
        default="", description="OpenTelemetry collector, http://host:port; empty sends no spans."
    )
    telemetry_address: str = Field(default="127.0.0.1:7401", description="gRPC address of the telemetry service.")
    pricing_address: str = Field(default="127.0.0.1:7402", description="gRPC address of the pricing service.")
    scheduler_address: str = Field(default="127.0.0.1:7403", description="gRPC address of the scheduler.")
    orchestrator_address: str = Field(
        default="127.0.0.1:7404", description="gRPC address of the orchestrator's health."
    )
    gateway_address: str = Field(default="127.0.0.1:7405", description="gRPC address of the gateway.")
    vectors_address: str = Field(default="127.0.0.1:7406", description="gRPC address of the vectors service.")
    ledger_address: str = Field(default="127.0.0.1:7407", description="gRPC address of the ledger.")

    def nats_password(self) -> str:
        """The password from its file; empty where there is none. Raises Broken."""
        return _secret(self.nats_password_file, "ERGONAUT_NATS_PASSWORD_FILE")

    def service_key(self) -> str:
        """The services' key from its file; empty where there is none. Raises Broken."""
        return _secret(self.service_key_file, "ERGONAUT_SERVICE_KEY_FILE")


def _secret(path: Path | None, setting: str) -> str:
    try:
        return path.read_text().strip() if path else ""
    except OSError as error:
        raise Broken(f"{setting}: {path} cannot be read: {error.strerror}") from error


class DoorSettings(BaseSettings):
    """Base of a service's own settings; the subclass sets the prefix `ERGONAUT_<NAME>_` and the two default ports."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    grpc_address: str = Field(description="Where the gRPC door listens, host:port; loopback unless told otherwise.")
    metrics_address: str = Field(
        description="Where /metrics is served for Prometheus, host:port; port 0 picks a free one."
    )
