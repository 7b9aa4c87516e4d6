"""What every engine of the comparison can do, and how peers do it. Used by `worker.py` in each engine's own environment.

It needs numpy and the one engine alone: peers run in Pythons that have nothing of ours. Graphs are all built with the same
breadth (M = 16, 100 candidates), lists with the same number of lists.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LINKS = 16
CANDIDATES_BUILT = 100
LISTS = 512
"""For 60,000 to 100,000 vectors; the square root of more (`lists_of`)."""

LISTS_BASE_MAX = 120_000
TRAINED_ROWS_MAX = 50_000
ROOM = 1.6
"""Room for inserts, as a share of what is built: hnswlib must be told before."""


@dataclass(frozen=True)
class Given:
    """What an engine is told of the vectors, and how it is to be."""

    dimension: int
    metric: str
    """`l2` or `ip`; rows have length one for the latter."""
    element: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)


def lists_of(count: int) -> int:
    """How many lists a set is cut into."""
    return LISTS if count <= LISTS_BASE_MAX else 1 << round(np.log2(2 * count**0.5))


class Engine(ABC):
    """An index of one engine; ids are the rows' numbers. All build and search; what else one can do it has a method for."""

    efforts: tuple[float, ...] = (10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 320)
    """How hard to look, from little to much: what a curve is made of."""

    seed = 1
    """Of what chance decides in a build, where an engine lets itself be told."""

    def __init__(self, given: Given) -> None:
        self.given = given

    @abstractmethod
    def build(self, base: Array, threads: int) -> None: ...

    @abstractmethod
    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array: ...

    def insert(self, rows: Array, first_id: int) -> None:
        raise NotImplementedError("it takes no inserts here")

    def delete(self, ids: Array) -> None:
        raise NotImplementedError("it takes no deletes here")

    def allow(self, allowed: Array | None) -> None:
        """Count only the rows for which this is true, from now on; all for None."""
        raise NotImplementedError("it takes no filters here")

    def save(self, folder: Path) -> None:
        raise NotImplementedError("it is not saved here")

    def load(self, folder: Path) -> None:
        raise NotImplementedError("it is not loaded here")

    def told(self) -> dict[str, Any]:
        """Whatever else it says of itself."""
        return {}


class Hnswlib(Engine):
    """hnswlib's graph over float32."""

    _filter: Any = None

    def _index(self) -> Any:
        import hnswlib

        return hnswlib.Index(self.given.metric, self.given.dimension)

    def build(self, base: Array, threads: int) -> None:
        self._at = self._index()
        self._at.init_index(int(len(base) * ROOM), M=LINKS, ef_construction=CANDIDATES_BUILT, random_seed=self.seed)
        self._at.add_items(base, num_threads=threads)

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:
        self._at.set_ef(max(int(effort), limit))
        options = {} if self._filter is None else {"filter": self._filter}
        try:
            found: Array = self._at.knn_query(queries, k=limit, num_threads=threads, **options)[0]
        except RuntimeError:
            # It gives nothing at all where it finds fewer than `limit`.
            found = np.full((len(queries), limit), -1, np.int64)
        return found

    def insert(self, rows: Array, first_id: int) -> None:
        self._at.add_items(rows, np.arange(first_id, first_id + len(rows)), num_threads=1)

    def delete(self, ids: Array) -> None:
        for each in ids:
            self._at.mark_deleted(int(each))

    def allow(self, allowed: Array | None) -> None:
        flags = None if allowed is None else allowed.tolist()
        self._filter = None if flags is None else flags.__getitem__

    def save(self, folder: Path) -> None:
        self._at.save_index(str(folder / "index.bin"))
        (folder / "count.txt").write_text(str(self._at.get_current_count()))

    def load(self, folder: Path) -> None:
        # Without the room for inserts, which would count as memory.
        self._at = self._index()
        self._at.load_index(str(folder / "index.bin"), max_elements=int((folder / "count.txt").read_text()))


class Faiss(Engine):
    """An index of faiss by its factory's word, which `options` tells; `refine` is how many times `limit` are looked at again."""

    _selector: Any = None

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        import faiss

        self._faiss = faiss
        self._graph = "HNSW" in given.options["factory"]
        if not self._graph:
            self.efforts = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

    def build(self, base: Array, threads: int) -> None:
        faiss = self._faiss
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_INNER_PRODUCT if self.given.metric == "ip" else faiss.METRIC_L2
        factory = self.given.options["factory"].format(lists=lists_of(len(base)))
        self._at = faiss.index_factory(self.given.dimension, factory, metric)
        if self._graph:
            self._at.hnsw.efConstruction = CANDIDATES_BUILT
        trained = np.random.default_rng(0).choice(len(base), min(len(base), TRAINED_ROWS_MAX), replace=False)
        self._at.train(base[trained])
        self._at.add(base)

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:
        self._faiss.omp_set_num_threads(threads)
        found: Array = self._at.search(queries, limit, params=self._parameters(int(effort)))[1]
        return found

    def _parameters(self, effort: int) -> Any:
        faiss, chosen = self._faiss, {} if self._selector is None else {"sel": self._selector}
        if self._graph:
            return faiss.SearchParametersHNSW(efSearch=effort, **chosen)
        lists = faiss.SearchParametersIVF(nprobe=effort, **chosen)
        if "refine" not in self.given.options:
            return lists
        return faiss.IndexRefineSearchParameters(k_factor=self.given.options["refine"], base_index_params=lists)

    def allow(self, allowed: Array | None) -> None:
        self._packed = None if allowed is None else np.packbits(allowed, bitorder="little")
        self._selector = None if self._packed is None else self._faiss.IDSelectorBitmap(self._packed)

    def save(self, folder: Path) -> None:
        self._faiss.write_index(self._at, str(folder / "index.bin"))

    def load(self, folder: Path) -> None:
        self._at = self._faiss.read_index(str(folder / "index.bin"))


class Usearch(Engine):
    """usearch's graph over what `options` name as the type of a number."""

    def build(self, base: Array, threads: int) -> None:
        from usearch.index import Index

        metric = "ip" if self.given.metric == "ip" else "l2sq"
        self._at = Index(
            ndim=self.given.dimension,
            metric=metric,
            dtype=self.given.options["dtype"],
            connectivity=LINKS,
            expansion_add=CANDIDATES_BUILT,
        )
        self._at.add(np.arange(len(base)), base, threads=threads)

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:
        self._at.expansion_search = int(effort)
        return np.asarray(self._at.search(queries, limit, threads=threads).keys).reshape(len(queries), -1)

    def insert(self, rows: Array, first_id: int) -> None:
        self._at.add(np.arange(first_id, first_id + len(rows)), rows, threads=1)

    def delete(self, ids: Array) -> None:
        for each in ids:
            self._at.remove(int(each))

    def save(self, folder: Path) -> None:
        self._at.save(str(folder / "index.bin"))

    def load(self, folder: Path) -> None:
        from usearch.index import Index

        self._at = Index.restore(str(folder / "index.bin"))


class Pynndescent(Engine):
    """pynndescent's graph; its effort is the widening of the search beyond the nearest found."""

    efforts = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3)

    def build(self, base: Array, threads: int) -> None:
        from pynndescent import NNDescent

        metric = "dot" if self.given.metric == "ip" else "euclidean"
        self._at = NNDescent(base, metric=metric, n_neighbors=30, n_jobs=threads, random_state=1, low_memory=False)
        self._at.prepare()

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:  # noqa: ARG002 (told when it is built)
        found: Array = self._at.query(queries, k=limit, epsilon=effort)[0]
        return found


def engine_of(name: str, given: Given) -> Engine:
    """The engine of this name."""
    if name == "ours":
        from ours import Ours, OurShard

        return OurShard(given) if "shard" in given.options else Ours(given)
    engines: dict[str, type[Engine]] = {
        "hnswlib": Hnswlib,
        "faiss": Faiss,
        "usearch": Usearch,
        "pynndescent": Pynndescent,
    }
    return engines[name](given)
