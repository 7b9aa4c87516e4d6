"""What pricing remembers over restarts, in two key-value buckets of JetStream: what it told, and which hosts reported."""

from collections.abc import Sequence

from nats.js.errors import KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter

from ergonaut_common.bus.connection import until_answered
from ergonaut_pricing.domain import Host
from ergonaut_pricing.ports import Told

ANNOUNCED_BUCKET = "pricing-announced"
HOSTS_BUCKET = "pricing-hosts"

_host_json = TypeAdapter(Host)


class KeyValueAnnouncedBook:
    """What was told last, by the key of the offer or zone."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def last(self, key: str) -> Told | None:
        entry = await _entry(self._bucket, key)
        return None if entry is None else Told(entry[0].decode(), entry[1])

    async def keys(self) -> Sequence[str]:
        return await _keys(self._bucket)

    async def remember(self, key: str, text: str) -> None:
        await until_answered(lambda: self._bucket.put(key, text.encode()), what=f"remembering what was told of {key}")

    async def forget(self, key: str) -> None:
        await until_answered(lambda: self._bucket.delete(key), what=f"forgetting what was told of {key}")


class KeyValueHostBook:
    """Hosts, by `<tenant>.<host>`; both are names, so neither holds a dot."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def host(self, tenant: str, name: str) -> Host | None:
        entry = await _entry(self._bucket, f"{tenant}.{name}")
        return None if entry is None else _host_json.validate_json(entry[0])

    async def all(self) -> Sequence[Host]:
        entries = [await _entry(self._bucket, key) for key in await _keys(self._bucket)]
        return [_host_json.validate_json(entry[0]) for entry in entries if entry is not None]

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


async def _keys(bucket: KeyValue) -> list[str]:
    """All keys that have a value, sorted."""

    async def list_keys() -> list[str]:
        try:
            return sorted(await bucket.keys())
        except NoKeysError:
            return []

    return await until_answered(list_keys, what="listing what is remembered")
