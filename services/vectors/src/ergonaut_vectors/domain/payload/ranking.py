"""Ranks texts by BM25, as Lucene computes it, over the words of a text column. For hybrid search; the shard calls.

A collection's texts lie in many segments and shards, so what is rare is only known to all of them together: each tells its
statistics of the words asked for, these are added up, and each ranks by the sum. That is why no search library does it here:
those bake the statistics of one set of texts into their scores. Tests hold the scores to those of bm25s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Readable, Texts
from ergonaut_vectors.domain.payload.stems import stemmed
from ergonaut_vectors.domain.payload.terms import UNKNOWN, words_of
from ergonaut_vectors.domain.space import Words

WORDS_MAX = 64
"""Words of a query; what is longer is a text, whose words beyond the first hardly change what is found."""

REPEATS_K1 = 1.2
"""How soon a word that is repeated in a text counts no more; the value that Lucene and Elasticsearch start with."""

LENGTH_B = 0.75
"""How much a long text has to say a word more often than a short one; likewise."""

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of the texts of one field; those of several parts can be added up by `combined`."""

    texts: int = 0
    words: int = 0
    """Of all texts together."""
    holding: Mapping[str, int] = field(default_factory=dict)
    """How many texts have each of the words asked for."""


class Ranked(NamedTuple):
    """Rows by how well they fit, the best first, equal ones by row."""

    rows: npt.NDArray[np.int64]
    scores: Scores


def query_words(text: str) -> tuple[str, ...]:
    """The words that a query asks for, each once."""
    return tuple(dict.fromkeys(words_of(text)))[:WORDS_MAX]


def statistics_of(columns: Readable, name: str, words: Sequence[str], count: int) -> Statistics:
    """What the first rows know of these words. Rows that were deleted are counted until they are merged away."""
    texts = columns.texts(name, count)
    if texts is None:
        return Statistics()
    stems = stemmed(words, texts.language)
    holding = {word: len(_postings(texts, stem)[0]) for word, stem in zip(words, stems, strict=True)}
    return Statistics(len(texts.rows), int(texts.lengths.sum()), holding)


def combined(parts: Iterable[Statistics]) -> Statistics:
    """What all parts know together."""
    texts = words = 0
    holding: dict[str, int] = {}
    for part in parts:
        texts += part.texts
        words += part.words
        for word, times in part.holding.items():
            holding[word] = holding.get(word, 0) + times
    return Statistics(texts, words, holding)


def scores_of(columns: Readable, name: str, words: Sequence[str], known: Statistics, count: int) -> Scores:
    """The score of each of the first rows for these words; 0 for those that have none of them."""
    scores = np.zeros(count, np.float32)
    texts = columns.texts(name, count)
    if texts is None or not known.words:
        return scores
    lengths = np.zeros(count, np.float32)
    lengths[texts.rows] = texts.lengths
    mean = known.words / known.texts
    stems: dict[str, str] = {}
    for word, stem in zip(words, stemmed(words, texts.language), strict=True):
        stems.setdefault(stem, word)  # two words of one stem are asked for once
    for stem, word in stems.items():
        rows, times = _postings(texts, stem)
        shortened = REPEATS_K1 * (1 - LENGTH_B + LENGTH_B * lengths[rows] / mean)
        scores[rows] += _rarity(known, word) * times / (times + shortened)
    return scores


def best(scores: Scores, limit: int, allowed: Words | None = None) -> Ranked:
    """The rows with the highest scores above 0, of those allowed."""
    counts = scores > 0
    if allowed is not None:
        counts &= bits.mask_of(allowed, len(scores))
    rows = np.flatnonzero(counts)
    if len(rows) > limit:
        # All that tie with the last one stay, so that which of them is taken does not depend on how they were parted.
        least = np.partition(scores[rows], len(rows) - limit)[len(rows) - limit]
        rows = rows[scores[rows] >= least]
    order = np.lexsort((rows, -scores[rows]))[:limit]
    return Ranked(rows[order], scores[rows[order]])


def _postings(texts: Texts, stem: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    code = texts.postings.terms.code_of(stem)
    if code == UNKNOWN:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    rows, times = texts.postings.of(code)
    return rows, times.astype(np.float32)


def _rarity(known: Statistics, word: str) -> np.float32:
    holding = known.holding.get(word, 0)
    return np.float32(np.log1p((known.texts - holding + 0.5) / (holding + 0.5)))
