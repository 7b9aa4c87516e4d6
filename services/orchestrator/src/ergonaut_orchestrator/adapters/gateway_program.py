"""How the platform's gateway is started as a replica: the one that is installed here, with what the orchestrator was told itself.

Secrets travel as paths of files, which the program reads; only the salt of the request log has no file and travels in the
environment, as it does to the gateway itself. Built by `main`.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from ergonaut.replicas import NOT_TO_BE_SET
from ergonaut_common.settings import PlatformSettings
from ergonaut_orchestrator.domain.replicas import GatewayProgram

_PREFIX = "ERGONAUT_"
_GATEWAY = "ERGONAUT_GATEWAY_"
_PASSED_ON = ("ERGONAUT_HOST", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "TZ")
"""What else a gateway may need of its surroundings: its host's name, GPU libraries, authorities, the zone of its logs."""

_FILES = frozenset(
    {
        "ERGONAUT_GATEWAY_OPENAI_ROUTES",
        "ERGONAUT_GATEWAY_SIGNATURE_KEYS",
        "ERGONAUT_GATEWAY_TLS_CERTIFICATE",
        "ERGONAUT_GATEWAY_TLS_KEY",
        "ERGONAUT_GATEWAY_TLS_CLIENT_CA",
    }
)
"""Settings that name files, parted by commas: a replica works in another folder, from which a short path would lead astray."""


def gateway_program(platform: PlatformSettings, environment: Mapping[str, str], *, host: str) -> GatewayProgram | None:
    """How a replica is started that listens on a host's free ports; None where no gateway is installed here."""
    module = next((each.value for each in entry_points(group="ergonaut.services") if each.name == "gateway"), None)
    if module is None:
        return None
    own = {name: _whole(name, value) for name, value in environment.items() if _is_passed_on(name)}
    any_port = f"{_bracketed(host)}:0"
    addresses = {f"{_GATEWAY}{door}_ADDRESS": any_port for door in ("HTTP", "GRPC", "METRICS", "ADVERTISED")}
    # Below its lease, so that what it lays down there goes with it and is in no other gateway's way.
    told = {**_platform(platform), **own, **addresses, "ERGONAUT_DATA_DIR": "data"}
    # Without the folder in which it is started on its path, and without what PYTHON* variables would put there.
    return GatewayProgram((sys.executable, "-I", "-m", module), told)


def _platform(platform: PlatformSettings) -> dict[str, str]:
    """What every service is told, as variables."""
    told = {name: getattr(platform, name) for name in type(platform).model_fields}
    return {
        f"{_PREFIX}{name.upper()}": str(value.resolve() if isinstance(value, Path) else value)
        for name, value in told.items()
        if value is not None
    }


def _is_passed_on(name: str) -> bool:
    is_salt = name == f"{_GATEWAY}REQUEST_LOG_SALT"
    is_address = name == f"{_GATEWAY}ADDRESS"
    return name in _PASSED_ON or is_salt or (name.startswith(_GATEWAY) and name not in NOT_TO_BE_SET and not is_address)


def _whole(name: str, value: str) -> str:
    if name not in _FILES:
        return value
    return ",".join(str(Path(part.strip()).resolve()) for part in value.split(",") if part.strip())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
