"""A shard's state as it is written down: which segments, which of their rows live, as of which position. A file like a segment's.

The adapter writes it after the segments it names, in one step; a restore and a copy to another machine read it as well.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Broken
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments.ids import Digest, hashed
from ergonaut_vectors.domain.segments.layout import Contents
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.shard import Checkpoint
from ergonaut_vectors.domain.segments.view import Part, Tuned, View
from ergonaut_vectors.domain.space import Element, Metric, Space, Words


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint that was written down."""

    position: int
    mark: bytes
    """What the writer of the log gave, as bytes."""
    serial: int
    digest: Digest
    space: Space
    segments: Mapping[str, int]
    """Rows of each segment, by name."""
    live: Mapping[str, npt.NDArray[np.uint64]]
    tuned: Mapping[str, Tuned]
    """How the indexes of segments were found to be."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, mark: bytes) -> "Manifest":
        """What has to be written down of a checkpoint."""
        view = checkpoint.view
        segments, live, tuned = {}, {}, {}
        for part in view.parts:
            assert isinstance(part.store, Segment), "a checkpoint has segments alone"
            segments[part.store.name] = part.store.count
            if part.count < part.store.count:
                live[part.store.name] = part.live
            if part.tuned is not None:
                tuned[part.store.name] = part.tuned
        return cls(view.position, mark, checkpoint.serial, view.digest, view.space, segments, live, tuned)

    @property
    def count(self) -> int:
        """Living rows."""
        return sum(
            rows if name not in self.live else bits.counted(self.live[name]) for name, rows in self.segments.items()
        )

    @property
    def about(self) -> dict[str, Any]:
        """What the file says beside its arrays; JSON."""
        space = {"dimension": self.space.dimension, "metric": self.space.metric, "element": self.space.element}
        return {
            "position": self.position,
            "mark": base64.b64encode(self.mark).decode(),
            "serial": self.serial,
            "digest": list(self.digest),
            "space": space,
            "segments": dict(self.segments),
            "tuned": {name: astuple(each) for name, each in self.tuned.items()},
        }

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The living rows of segments in which not all live."""
        return {f"live_{name}": words for name, words in self.live.items()}

    @classmethod
    def read(cls, contents: Contents) -> "Manifest":
        """The manifest of a file."""
        told = contents.about
        space = Space(told["space"]["dimension"], Metric(told["space"]["metric"]), Element(told["space"]["element"]))
        live = {name.removeprefix("live_"): np.array(words) for name, words in contents.arrays.items()}
        mark, digest = base64.b64decode(told["mark"]), Digest(*told["digest"])
        tuned = {name: Tuned(*each) for name, each in told["tuned"].items()}
        return cls(told["position"], mark, told["serial"], digest, space, told["segments"], live, tuned)

    def checkpoint(self, opened: Callable[[str], Segment]) -> Checkpoint:
        """The state again, of segments that are opened by name."""
        parts, digest = [], Digest()
        for name, count in self.segments.items():
            segment = opened(name)
            if segment.count != count:
                raise Broken(f"segment {name} has {segment.count} rows, but the manifest says {count}")
            live = self.live.get(name)
            words = bits.all_of(count) if live is None else live
            parts.append(Part(segment, words, bits.counted(words), self.tuned.get(name)))
            digest = _with_rows(digest, segment, words)
        if digest != self.digest:
            raise Broken(f"the segments {list(self.segments)} are not those of the manifest: their digest is {digest}")
        return Checkpoint(View(self.space, self.position, self.mark, tuple(parts), self.digest), self.serial)


def _with_rows(digest: Digest, segment: Segment, live: Words) -> Digest:
    rows = bits.rows_of(live, segment.count)
    hashes = hashed(segment.table.blob, segment.table.offsets, segment.count)
    return digest.changed(hashes[rows], segment.sequences[rows], 1)
