"""The contract of the port `Stores`, over the fake and over folders."""

from pathlib import Path

import numpy as np
import pytest

from ergonaut.errors import Broken
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.domain.batches import NO_DIGEST, Batch, digest_of, messages_of, name_of
from ergonaut_vectors.domain.replica import Kept, Replica
from ergonaut_vectors.domain.segments.layout import pieces
from ergonaut_vectors.domain.segments.manifest import Manifest
from ergonaut_vectors.domain.segments.work import Policy, done
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.domain.space import Space
from ergonaut_vectors.fakes import FakeStores
from ergonaut_vectors.ports import Store, Stores

SPACE = Space(4)


@pytest.fixture(params=["fake", "folders"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return FakeStores() if request.param == "fake" else ShardFolders(tmp_path / "shards")


def saved(store: Store, *names: str, after: Kept | None = None) -> Replica:
    """A replica to which these were written behind what was kept, and whose state was saved then."""
    replica = Replica(SPACE, {}, Policy(), after)
    head = after.head if after else None
    (content,) = messages_of(
        Batch(Upserts(names, np.ones((len(names), 4), np.float32)), name_of(names[0])),
        head.digest if head else NO_DIGEST,
    )
    replica.take(replica.position + 1, content)
    work = replica.plan_seal()
    assert work is not None
    replica.install(store.keep(done(work)))
    store.save(replica.kept())
    assert replica.kept().head.digest == digest_of(content)
    return replica


def test_what_was_saved_last_is_come_back_to(stores: Stores) -> None:
    store = stores.of("a.0")
    assert store.load() is None
    saved(store, "x", "y")
    kept = stores.of("a.0").load()
    assert kept is not None
    second = saved(stores.of("a.0"), "z", after=kept)
    again = stores.of("a.0").load()
    assert again is not None
    replica = Replica(SPACE, {}, Policy(), again)
    assert (replica.position, replica.view.count, replica.view.digest) == (2, 3, second.view.digest)
    assert replica.repeated(name_of("x")) == 1


def test_the_last_saved_are_told_first(stores: Stores) -> None:
    for name in ("a", "b", "c"):
        saved(stores.of(name), "x")
    saved(stores.of("a"), "y")
    assert list(stores.recent(2)) == ["a", "c"]


def test_what_is_removed_is_gone_and_others_stay(stores: Stores) -> None:
    for name in ("a", "b", "c"):
        saved(stores.of(name), "x")
    stores.remove("b")
    stores.remove("b")
    assert stores.of("b").load() is None
    stores.retain({"c"})
    assert stores.of("a").load() is None
    assert stores.of("c").load() is not None


def test_a_damaged_file_is_told_and_can_be_set_aside(tmp_path: Path) -> None:
    stores = ShardFolders(tmp_path)
    saved(stores.of("a"), "x")
    (segment,) = (tmp_path / "a").glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    with pytest.raises(Broken, match="is damaged"):
        stores.of("a").load()
    stores.of("a").set_aside()
    assert stores.of("a").load() is None
    assert (tmp_path / "a.damaged" / segment.name).read_bytes() == content
    stores.retain({"a"})
    assert (tmp_path / "a.damaged").exists()
    stores.remove("a")
    assert not (tmp_path / "a.damaged").exists()


def test_a_state_of_another_version_is_told_as_what_cannot_be_read(tmp_path: Path) -> None:
    stores = ShardFolders(tmp_path)
    replica = saved(stores.of("a"), "x")
    kept = replica.kept()
    about = {name: value for name, value in Manifest.of(kept.checkpoint, kept.mark).about.items() if name != "serial"}
    (tmp_path / "a" / "manifest").write_bytes(b"".join(bytes(piece) for piece in pieces(about, {})))
    with pytest.raises(Broken, match="was written by another version: KeyError"):
        stores.of("a").load()
