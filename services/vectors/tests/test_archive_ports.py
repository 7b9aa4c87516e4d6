"""The contracts of the archive's ports: shelves in a folder, in NATS and in S3; the past of a log in memory and in NATS."""

from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ergonaut.errors import NotFound, Refused
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.shelves import FolderShelf, ObjectShelf
from ergonaut_vectors.archive.fakes import FakePast
from ergonaut_vectors.archive.ports import Past, PastMessage, Shelf, Until
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Upserts

SHELVES = pytest.mark.parametrize("kind", ["folder", "nats", "s3"])
PASTS = pytest.mark.parametrize("kind", ["fake", "nats"])


@pytest.fixture
def s3_shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    from ergonaut_vectors.adapters.s3_shelf import S3Shelf

    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket="snapshots")
        yield S3Shelf("snapshots", "ergonaut/vectors")


@pytest.fixture
async def shelf(kind: str, bus: Bus, tmp_path: Path, request: pytest.FixtureRequest) -> Shelf:
    if kind == "s3":
        found: Shelf = request.getfixturevalue("s3_shelf")
        return found
    return FolderShelf(tmp_path / "shelf") if kind == "folder" else ObjectShelf(bus)


@SHELVES
async def test_a_file_is_fetched_as_it_was_put_and_the_last_one_of_a_name_counts(shelf: Shelf, tmp_path: Path) -> None:
    name = f"files/{new_id('tenant')}/uid/digest"
    source, target = tmp_path / "source", tmp_path / "target"
    for content in (b"first", bytes(range(256)) * 2000, b""):
        source.write_bytes(content)
        await shelf.put(name, source)
        await shelf.fetch(name, target)
        assert target.read_bytes() == content


@SHELVES
async def test_names_are_listed_by_how_they_begin_and_what_is_dropped_is_gone(shelf: Shelf, tmp_path: Path) -> None:
    tenant, source = new_id("tenant"), tmp_path / "source"
    source.write_bytes(b"content")
    prefix = f"files/{tenant}/"
    assert await shelf.names(prefix) == []
    names = [f"{prefix}two/b", f"{prefix}one/a", f"snapshots/{tenant}/one/c"]
    for name in names:
        await shelf.put(name, source)
    assert await shelf.names(prefix) == sorted(names[:2])
    assert await shelf.names(f"{prefix}one/") == [names[1]]
    await shelf.drop(names[1])
    await shelf.drop(names[1])
    assert await shelf.names(prefix) == [names[0]]
    with pytest.raises(NotFound):
        await shelf.fetch(names[1], tmp_path / "target")


def s3_client() -> Any:
    return pytest.importorskip("boto3").client("s3")


async def dead_put(shelf: Shelf, bus: Bus, folder: Path, name: str) -> None:
    """What a put leaves whose process was killed in the middle of it."""
    if isinstance(shelf, ObjectShelf):
        await bus.object_store(f"vectors-{name.split('/')[1]}")
        for _ in range(2):
            await bus.jetstream.publish(f"$O.vectors-{name.split('/')[1]}.C.{new_id('part')}", b"a part")
    elif isinstance(shelf, FolderShelf):
        unfinished = (folder / "shelf" / name).with_name(new_id("unfinished"))
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(b"a part")
    else:
        s3_client().create_multipart_upload(Bucket="snapshots", Key=f"ergonaut/vectors/{name}")


async def leftovers(shelf: Shelf, bus: Bus, folder: Path, tenant: str) -> int:
    """How many files, parts or uploads lie there that are no whole file."""
    if isinstance(shelf, ObjectShelf):
        told = await bus.jetstream.stream_info(f"OBJ_vectors-{tenant}", subjects_filter=">")
        kinds = [subject.split(".")[2] for subject in told.state.subjects or ()]
        return kinds.count("C") - kinds.count("M")
    if isinstance(shelf, FolderShelf):
        return len(list((folder / "shelf").glob(f"**/{tenant}/**/unfinished-*")))
    uploads = s3_client().list_multipart_uploads(Bucket="snapshots").get("Uploads", ())
    return len([each for each in uploads if tenant in each["Key"]])


@SHELVES
async def test_what_killed_puts_left_is_cleared_where_it_is_old_and_of_that_tenant(
    shelf: Shelf, bus: Bus, tmp_path: Path
) -> None:
    tenant, other, source = new_id("tenant"), new_id("tenant"), tmp_path / "source"
    kept = f"files/{tenant}/uid/kept"
    source.write_bytes(b"content")
    await shelf.put(kept, source)
    for name in (f"files/{tenant}/uid/a", f"files/{tenant}/uid/b", f"files/{other}/uid/a"):
        await dead_put(shelf, bus, tmp_path, name)
    there = await leftovers(shelf, bus, tmp_path, tenant)
    assert there >= 2
    # moto has every upload begin in November 2010.
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await shelf.clear(
        tenant, hour_ago if isinstance(shelf, FolderShelf | ObjectShelf) else datetime(2010, 11, 1, tzinfo=UTC)
    )
    assert await leftovers(shelf, bus, tmp_path, tenant) == there
    await shelf.clear(tenant, datetime.now(UTC) + timedelta(hours=1))
    assert await leftovers(shelf, bus, tmp_path, tenant) == 0
    assert await leftovers(shelf, bus, tmp_path, other) >= 1
    assert await shelf.names(f"files/{tenant}/") == [kept]
    await shelf.fetch(kept, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"content"
    await shelf.clear(new_id("tenant"), datetime.now(UTC))


async def test_a_bucket_that_is_not_there_is_told(s3_shelf: Shelf, tmp_path: Path) -> None:
    from ergonaut_vectors.adapters.s3_shelf import S3Shelf

    (tmp_path / "source").write_bytes(b"content")
    with pytest.raises(Exception, match="another") as caught:
        await S3Shelf("another").put("files/a/b/c", tmp_path / "source")
    assert not isinstance(caught.value, NotFound)
    with pytest.raises((Refused, NotFound)):
        await S3Shelf("another").fetch("files/a/b/c", tmp_path / "target")


async def read(past: Past, key: Key, after: int, until: Until) -> list[PastMessage]:
    found: list[PastMessage] = []
    async with aclosing(past.messages(key, after, until)) as batches:
        async for some in batches:
            found += some
    return found


@PASTS
async def test_the_past_is_read_to_a_position_or_a_moment_and_no_further(kind: str, bus: Bus) -> None:
    key, written = Key(new_id("tenant"), "books"), FakePast()
    with pytest.raises(NotFound):
        await (written if kind == "fake" else JetStreamPast(bus.jetstream)).end(key)
    for at in range(5):
        written.write(key, Upserts([f"point-{at}"], np.zeros((1, 2), np.float32)))
    past: Past = written
    if kind == "nats":
        logs = JetStreamLog(bus.jetstream, 1_000_000)
        await logs.make(key)
        for message in written.logs[key]:
            await logs.append(key, message.content, message.sequence - 1)
        past = JetStreamPast(bus.jetstream)
    everything = await read(past, key, 0, Until())
    assert [(each.sequence, each.content) for each in everything] == [
        (each.sequence, each.content) for each in written.logs[key]
    ]
    assert (await past.begin(key), await past.end(key)) == (1, 5)
    assert await read(past, key, 0, Until(position=3)) == everything[:3]
    assert await read(past, key, 2, Until(position=3)) == everything[2:3]
    assert await read(past, key, 5, Until()) == []
    moment = everything[1].written_at
    assert await read(past, key, 0, Until(moment=moment)) == everything[:2]
    assert await past.written_at(key, 2) == moment
    assert await past.written_at(key, 9) is None
