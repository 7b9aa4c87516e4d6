"""The port `Shelf`: in JetStream's object store, one bucket a tenant, or in a folder that lies on another disk or machine."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from nats.errors import Error as NatsError
from nats.js.api import ObjectInfo
from nats.js.errors import APIError, DigestMismatchError, NotFoundError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from ergonaut.errors import Broken, NotFound, Refused, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.bus.connection import until_answered
from ergonaut_vectors.adapters.segment_files import sync_folder
from ergonaut_vectors.archive.ports import CLEARED_MAX

TRANSFER_TIMEOUT_SECONDS = 600.0
"""For one file: two million vectors of 384 float32 at some megabytes a second. nats-py itself would wait for ever."""

LISTING_TIMEOUT_SECONDS = 10.0

UNFINISHED = "unfinished"
"""So the names of files begin whose put is not done; that of a kept file is the digest, id or position of what is in it."""

_STREAM_FULL = (10077, 10047, 10023)

T = TypeVar("T")


class ObjectShelf:
    """Files as objects; NATS keeps their digests and says where one does not fit."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, name: str, source: Path) -> None:
        bucket = await self._bucket(name)

        async def put() -> None:
            with source.open("rb") as content:
                try:
                    await bucket.put(name, content)
                except APIError as error:
                    if error.err_code in _STREAM_FULL:
                        message = "NATS has no room for the snapshot; drop others, or keep them elsewhere"
                        raise Refused(message, field="collection") from error
                    raise

        await _bounded(put, what=f"keeping {name}", seconds=TRANSFER_TIMEOUT_SECONDS)

    async def fetch(self, name: str, target: Path) -> None:
        bucket = await self._bucket(name)

        async def get() -> None:
            with target.open("wb") as content:
                try:
                    await bucket.get(name, writeinto=content)
                except ObjectNotFoundError as error:
                    raise NotFound(f"{name} is not kept") from error
                except DigestMismatchError as error:
                    raise Broken(f"{name} is damaged where it is kept") from error

        await _bounded(get, what=f"fetching {name}", seconds=TRANSFER_TIMEOUT_SECONDS)

    async def names(self, prefix: str) -> Sequence[str]:
        bucket = await self._bucket(prefix)

        async def listed() -> list[str]:
            return [each.name for each in await _objects(bucket)]

        found = await _bounded(listed, what=f"listing {prefix}", seconds=LISTING_TIMEOUT_SECONDS)
        return sorted(name for name in found if name.startswith(prefix))

    async def drop(self, name: str) -> None:
        bucket = await self._bucket(name)

        async def delete() -> None:
            try:
                await bucket.delete(name)
            except ObjectNotFoundError:
                return

        await until_answered(delete, what=f"dropping {name}")

    async def clear(self, tenant: str, before: datetime) -> None:
        """Remove the parts of files that have no name."""
        bucket = await self._bucket(f"files/{tenant}/")
        stream, subject = f"OBJ_{_bucket_of(tenant)}", f"$O.{_bucket_of(tenant)}.C."
        jetstream = self._bus.jetstream

        async def cleared() -> None:
            # In this order: what gets its name in between is not taken for a leftover.
            parts = (await jetstream.stream_info(stream, subjects_filter=f"{subject}>")).state.subjects or {}
            named = {subject + str(each.nuid) for each in await _objects(bucket)}
            for each in sorted(parts.keys() - named)[:CLEARED_MAX]:
                with suppress(NotFoundError):
                    written_at = (await jetstream.get_msg(stream, subject=each)).time
                    if written_at is not None and written_at < before:
                        await jetstream.purge_stream(stream, subject=each)

        await _bounded(cleared, what=f"removing leftovers of {tenant}", seconds=LISTING_TIMEOUT_SECONDS)

    async def _bucket(self, name: str) -> ObjectStore:
        """The second part of every name is the tenant."""
        return await self._bus.object_store(_bucket_of(name.split("/")[1]))


def _bucket_of(tenant: str) -> str:
    return f"vectors-{tenant}"


async def _objects(bucket: ObjectStore) -> list[ObjectInfo]:
    try:
        return await bucket.list(ignore_deletes=True)
    except NotFoundError:
        return []


async def _bounded(ask: Callable[[], Awaitable[T]], *, what: str, seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await until_answered(ask, what=what)
    except TimeoutError as error:
        raise Unavailable(f"{what}: not done within {seconds:g} s") from error
    except NatsError as error:
        raise Unavailable(f"{what}: {error}") from error


class FolderShelf:
    """Files in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, source: Path) -> None:
        await asyncio.to_thread(self._put, name, source)

    async def fetch(self, name: str, target: Path) -> None:
        try:
            await asyncio.to_thread(shutil.copyfile, self._root / name, target)
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not kept") from error
        except OSError as error:
            raise Unavailable(f"{name} could not be fetched: {error}") from error

    async def names(self, prefix: str) -> Sequence[str]:
        return await asyncio.to_thread(self._names, prefix)

    async def drop(self, name: str) -> None:
        await asyncio.to_thread((self._root / name).unlink, missing_ok=True)

    async def clear(self, tenant: str, before: datetime) -> None:
        try:
            await asyncio.to_thread(self._clear, tenant, before.timestamp())
        except OSError as error:
            raise Unavailable(f"leftovers of {tenant} could not be removed: {error}") from error

    def _clear(self, tenant: str, before_seconds: float) -> None:
        """Files get another time whenever something is written to them, so that those of puts that live are young."""
        for path in islice(self._root.glob(f"*/{tenant}/**/{UNFINISHED}-*"), CLEARED_MAX):
            # Another process may have been faster, with its removal or with its put.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before_seconds:
                    path.unlink()

    def _put(self, name: str, source: Path) -> None:
        target = self._root / name
        unfinished = target.with_name(new_id(UNFINISHED))
        try:
            self._make_folder(target.parent)
            with source.open("rb") as content, unfinished.open("wb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
            # Logs are trimmed by what lies here: it has to last through a loss of power.
            sync_folder(target.parent)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise Unavailable(f"{name} could not be kept: {error}") from error

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that lasts as well."""
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for parent in folder.parents:
                sync_folder(parent)
                if parent == self._root:
                    break

    def _names(self, prefix: str) -> list[str]:
        folder = (self._root / prefix).parent if not prefix.endswith("/") else self._root / prefix
        found = (path.relative_to(self._root).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(prefix) and f"/{UNFINISHED}-" not in name)
