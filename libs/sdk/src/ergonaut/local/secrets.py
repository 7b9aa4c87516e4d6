"""The secrets of an installation on one machine: made once, in files that only their owner may read, never in argv or logs."""

import json
import secrets
import shutil
from pathlib import Path

from ergonaut.keys import Scope, new_key
from ergonaut.local.home import Home, write_whole
from ergonaut.workflows import DEFAULT_TENANT

SERVICES_USER = "services"
OPERATOR_KEY_FILE = "operator.key"
STORE_BYTES_MAX = 32 * 1024**3
"""JetStream breaks when a disk fills up, so it is given a bound: this much at most, else half of what is free."""


def ensure_secrets(home: Home) -> None:
    """Make the keys and passwords that are not there yet."""
    home.secrets.mkdir(parents=True, exist_ok=True)
    home.secrets.chmod(0o700)
    if not (home.secrets / "keys.json").exists():
        _make_keys(home.secrets)
    if not (home.secrets / OPERATOR_KEY_FILE).exists():
        _add_operator(home.secrets)
    for user in (SERVICES_USER, DEFAULT_TENANT):
        path = password_file(home, user)
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(32), mode=0o600)


def password_file(home: Home, user: str) -> Path:
    """Where a NATS user's password lies."""
    return home.secrets / f"nats-{user}.password"


def _make_keys(folder: Path) -> None:
    client_key, client = new_key(DEFAULT_TENANT, "local-user", (Scope.READ, Scope.WRITE))
    service_key, service = new_key("", "service", tuple(Scope))
    write_whole(folder / "client.key", client_key, mode=0o600)
    write_whole(folder / "service.key", service_key, mode=0o600)
    # Last, since it is what tells that the keys are complete.
    records = [client.model_dump(mode="json"), service.model_dump(mode="json")]
    write_whole(folder / "keys.json", json.dumps({"keys": records}), mode=0o600)


def _add_operator(folder: Path) -> None:
    """A key of its own for what only whoever runs the platform may do, so that the client's, which programs use, cannot do it."""
    key, operator = new_key(DEFAULT_TENANT, "local-operator", (Scope.READ, Scope.WRITE, Scope.OPERATE))
    records = json.loads((folder / "keys.json").read_text())["keys"]
    records = [each for each in records if each.get("principal") != operator.principal]
    keys = {"keys": [*records, operator.model_dump(mode="json")]}
    write_whole(folder / "keys.json", json.dumps(keys), mode=0o600)
    # Last, since it is what tells that the record is there.
    write_whole(folder / OPERATOR_KEY_FILE, key, mode=0o600)


def write_nats_config(home: Home, address: str) -> Path:
    """The NATS server's settings: loopback, every write on disk before it is acknowledged, each user to their own subjects.

    A tenant's user reads that tenant's events and the public ones, and tells only what a tracker tells. Its replies come to
    inboxes of its own (`inbox_prefix="_INBOX_<tenant>"` in nats-py), so that no tenant can overhear another's.
    """
    store = home.data / "nats"
    store.mkdir(parents=True, exist_ok=True)
    used_bytes = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    store_bytes = min(STORE_BYTES_MAX, (shutil.disk_usage(store).free + used_bytes) // 2)
    tenant = DEFAULT_TENANT
    config = {
        "listen": address,
        "server_name": "ergonaut",
        "jetstream": {
            "store_dir": str(store),
            "max_memory_store": 64 * 1024**2,
            "max_file_store": store_bytes,
            "sync_interval": "always",
        },
        "authorization": {
            "users": [
                {"user": SERVICES_USER, "password": password_file(home, SERVICES_USER).read_text().strip()},
                {
                    "user": tenant,
                    "password": password_file(home, tenant).read_text().strip(),
                    "permissions": {
                        "publish": [f"ergonaut.v1.{tenant}.telemetry.>", f"ergonaut.v1.{tenant}.runs.>"],
                        "subscribe": [f"ergonaut.v1.{tenant}.>", "ergonaut.v1.public.>", f"_INBOX_{tenant}.>"],
                    },
                },
            ]
        },
    }
    write_whole(home.nats_config, json.dumps(config, indent=2), mode=0o600)
    return home.nats_config
