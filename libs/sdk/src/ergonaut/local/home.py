"""The folder of an installation on one machine: addresses, secrets, data, logs. Used by the supervisor and by clients."""

import json
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ergonaut.errors import Broken, NotFound, Refused

SERVICES = ("telemetry", "pricing", "scheduler", "orchestrator", "gateway", "vectors", "ledger")
"""In the order in which a person reads them: the way of a job through the house."""


class Addresses(BaseModel):
    """Where each part listens, host:port; the same over restarts unless a port was taken meanwhile."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    nats: str
    temporal: str
    temporal_ui: str
    gateway_http: str
    services: dict[str, str]
    metrics: dict[str, str]


class Home:
    """The folder, and what lies where in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets = path / "secrets"
        self.data = path / "data"
        self.logs = path / "logs"
        self.nats_config = self.secrets / "nats.conf"
        self.addresses_file = path / "addresses.json"
        self.state_file = path / "state.json"
        self.supervisor_lock = path / "supervisor.lock"

    @classmethod
    def from_environment(cls) -> Self:
        """The folder named by ERGONAUT_HOME, else `~/.ergonaut`."""
        named = os.environ.get("ERGONAUT_HOME")
        return cls(Path(named).expanduser() if named else Path.home() / ".ergonaut")

    def log_of(self, part: str) -> Path:
        """Where a part's output goes."""
        return self.logs / f"{part}.log"

    def addresses(self) -> Addresses:
        """Where the parts listen. Raises NotFound where nothing was ever started here, Refused where it cannot be read."""
        text = self._read(self.addresses_file, or_else=f"nothing was started in {self.path}; run `ergonaut up`")
        try:
            return Addresses.model_validate_json(text)
        except ValidationError as error:
            raise Broken(f"{self.addresses_file} is damaged; remove it and run `ergonaut up`: {error}") from error

    def client_key(self) -> str:
        """The key with which this machine's user calls the services. Raises as `addresses` does."""
        without = f"there is no key in {self.secrets}; run `ergonaut up`, or set ERGONAUT_API_KEY"
        return self._read(self.secrets / "client.key", or_else=without).strip()

    def operator_key(self) -> str:
        """The key with which whoever runs the platform here calls the services. Raises as `addresses` does."""
        without = f"there is no operator's key in {self.secrets}; run `ergonaut up`, or set ERGONAUT_API_KEY to one"
        return self._read(self.secrets / "operator.key", or_else=without).strip()

    def refused(self, error: OSError) -> Refused:
        """What to say of a folder that cannot be used: it is a file, another user's, or on a disk that takes nothing."""
        return Refused(f"{self.path} cannot be used: {error}; name a folder of yours", field="ERGONAUT_HOME")

    def _read(self, path: Path, *, or_else: str) -> str:
        try:
            return path.read_text()
        except FileNotFoundError:
            raise NotFound(or_else) from None
        except OSError as error:
            raise self.refused(error) from error


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole; for its owner alone, since an outside engine's address may hold credentials."""
    write_whole(path, json.dumps(value, indent=2) + "\n", mode=0o600)
