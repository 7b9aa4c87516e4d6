"""What pricing remembers over restarts, in two key-value buckets of JetStream: what it told, and which hosts reported."""

from collections.abc import Sequence

from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_pricing.domain import Host
from ergonaut_pricing.ports import Told

ANNOUNCED_BUCKET = "pricing-announced"
HOSTS_BUCKET = "pricing-hosts"

log = get_logger(__name__)
_host_json = TypeAdapter(Host)


class KeyValueAnnouncedBook:
    """What was told last, by the key of the offer or zone."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def last(self, key: str) -> Told | None:
        entry = await _entry(self._bucket, key)
        return None if entry is None else Told(entry[0].decode(), entry[1])

    async def keys(self) -> Sequence[str]:
        return [entry.key for entry in await listed(self._bucket, keys_only=True)]

    async def remember(self, key: str, text: str) -> None:
        await until_answered(lambda: self._bucket.put(key, text.encode()), what=f"remembering what was told of {key}")

    async def forget(self, key: str) -> None:
        await until_answered(lambda: self._bucket.delete(key), what=f"forgetting what was told of {key}")


class KeyValueHostBook:
    """Hosts, by `<tenant>.<host>`; both are names, so neither holds a dot."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def host(self, tenant: str, name: str) -> Host | None:
        key = f"{tenant}.{name}"
        entry = await _entry(self._bucket, key)
        return None if entry is None else _readable(key, entry[0])

    async def all(self) -> Sequence[Host]:
        entries = await listed(self._bucket)
        return [host for entry in entries if (host := _readable(entry.key, entry.value or b""))]

    async def keep(self, host: Host) -> None:
        key, value = f"{host.tenant}.{host.name}", _host_json.dump_json(host)
        await until_answered(lambda: self._bucket.put(key, value), what=f"remembering the host {key}")


async def _entry(bucket: KeyValue, key: str) -> tuple[bytes, int] | None:
    """A key's value and revision; None where there is none or it was deleted."""

    async def get() -> tuple[bytes, int] | None:
        try:
            entry = await bucket.get(key)
        except KeyNotFoundError:
            return None
        return entry.value or b"", entry.revision or 0

    return await until_answered(get, what=f"reading {key}")


def _readable(key: str, value: bytes) -> Host | None:
    """A host; None, as if it had never reported, where the record is damaged or another version's. Its agent reports again."""
    try:
        return _host_json.validate_json(value)
    except ValidationError as error:
        log.error("host left out until it reports again", key=key, because=str(error))
        return None
