"""Ranks texts by BM25, as Lucene computes it, over the words of a field's texts and keywords. For hybrid search.

A collection's texts lie in many segments and shards, so what is rare is only known to all of them together: each tells its
statistics of the words asked for, these are added up, and each ranks by the sum. That is why no search library does it here:
those bake the statistics of one set of texts into their scores. Tests hold the scores to those of bm25s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Readable, Values
from ergonaut_vectors.domain.payload.fields import FieldType
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
    lengths = _lengths(columns, name, count)
    holding = {
        word: len(_occurrences(columns, name, stem, count)[0])
        for word, stem in zip(words, _stems(columns, name, words), strict=True)
    }
    return Statistics(int(np.count_nonzero(lengths >= 0)), int(np.maximum(lengths, 0).sum()), holding)


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
    if not known.words:
        return scores
    lengths = _lengths(columns, name, count)
    mean = np.float32(known.words / known.texts)
    # Two words of one stem are asked for once.
    for stem, word in dict(zip(_stems(columns, name, words), words, strict=True)).items():
        rows, times = _occurrences(columns, name, stem, count)
        shortened = np.float32(REPEATS_K1) * (1 - LENGTH_B + LENGTH_B * lengths[rows] / mean)
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


def _stems(columns: Readable, name: str, words: Sequence[str]) -> Sequence[str]:
    declared = columns.fields.get(name)
    return stemmed(words, declared.language if declared else "")


def _lengths(columns: Readable, name: str, count: int) -> Scores:
    """How many words each of the first rows has; -1 for those without a text or keyword."""
    lengths = np.full(count, -1, np.float32)
    texts = columns.texts(name, count)
    if texts is not None:
        lengths[texts.rows] = texts.lengths
    keywords = columns.values(name, FieldType.KEYWORD, count)
    if keywords is not None and keywords.words is not None:
        rows = keywords.rows_of(np.arange(len(keywords.values)))
        of_rows = np.bincount(rows, keywords.words().lengths()[keywords.values], minlength=count)
        some = np.zeros(count, np.bool_)
        some[rows] = True
        lengths[some] = np.maximum(lengths[some], 0) + of_rows[some]
    return lengths


def _occurrences(columns: Readable, name: str, stem: str, count: int) -> tuple[npt.NDArray[np.int64], Scores]:
    """The rows that have a word, ascending, and how often, in texts and keywords together."""
    found = []
    texts = columns.texts(name, count)
    if texts is not None:
        code = texts.postings.terms.code_of(stem)
        if code != UNKNOWN:
            found.append(texts.postings.of(code))
    keywords = columns.values(name, FieldType.KEYWORD, count)
    if keywords is not None and keywords.words is not None:
        found.append(_in_keywords(keywords, *keywords.words().having(stem)))
    rows = np.concatenate([np.empty(0, np.int64), *(each[0] for each in found)]).astype(np.int64)
    times = np.concatenate([np.empty(0, np.float32), *(each[1] for each in found)]).astype(np.float32)
    if (rows[:-1] < rows[1:]).all():
        return rows, times
    rows, places = np.unique(rows, return_inverse=True)
    return rows, np.bincount(places, times).astype(np.float32)


def _in_keywords(
    column: Values, codes: npt.NDArray[np.int32], times: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]:
    assert column.terms is not None, "keywords have terms"
    table = np.zeros(len(column.terms), np.uint16)
    known = codes < len(table)  # others came after the rows that are asked about
    table[codes[known]] = times[known]
    of_values = table[column.values]
    chosen = np.flatnonzero(of_values)
    return column.rows_of(chosen), of_values[chosen]


def _rarity(known: Statistics, word: str) -> np.float32:
    holding = known.holding.get(word, 0)
    return np.float32(np.log1p((known.texts - holding + 0.5) / (holding + 0.5)))
