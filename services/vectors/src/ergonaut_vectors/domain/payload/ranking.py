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

DENSE_SHARE = 8
"""Where words are in more than one of so many rows, adding up all rows is faster than sorting those."""

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
    """Rows, and how well each fits."""

    rows: npt.NDArray[np.int64]
    scores: Scores


def query_words(text: str) -> tuple[str, ...]:
    """The words that a query asks for, each once."""
    return tuple(dict.fromkeys(words_of(text)))[:WORDS_MAX]


def statistics_of(columns: Readable, name: str, words: Sequence[str], count: int) -> Statistics:
    """What the first rows know of these words. Rows that were deleted are counted until they are merged away."""
    holding = {
        word: len(_occurrences(columns, name, stem, count)[0])
        for word, stem in zip(words, _stems(columns, name, words), strict=True)
    }
    _, lengths = _texts_of(columns, name, count)
    return Statistics(len(lengths), int(lengths.sum(dtype=np.int64)), holding)


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


def scores_of(columns: Readable, name: str, words: Sequence[str], known: Statistics, count: int) -> Ranked:
    """Those of the first rows that have any of these words, ascending, with their scores; `best` ranks them."""
    rows_with_any, lengths = _texts_of(columns, name, count)
    mean = known.words / known.texts if known.words else 1.0
    parts = [Ranked(np.empty(0, np.int64), np.empty(0, np.float32))]
    # Two words of one stem are asked for once.
    for stem, word in dict(zip(_stems(columns, name, words), words, strict=True)).items():
        rows, times = _occurrences(columns, name, stem, count)
        of_rows = lengths[rows] if len(lengths) == count else lengths[np.searchsorted(rows_with_any, rows)]
        shortened = (of_rows * (REPEATS_K1 * LENGTH_B / mean) + REPEATS_K1 * (1 - LENGTH_B)).astype(np.float32)
        often = times.astype(np.float32)
        parts.append(Ranked(rows, (_rarity(known, word) * often / (often + shortened)).astype(np.float32)))
    return _summed(parts, count)


def best(scores: Ranked, limit: int, allowed: Words | None = None) -> Ranked:
    """The rows with the highest scores, of those allowed; equal ones by row."""
    if allowed is not None:
        scores = _only(scores, bits.among(allowed, scores.rows))
    if len(scores.rows) > limit:
        # All that tie with the last one stay, so that which of them is taken does not depend on how they were parted.
        least = np.partition(scores.scores, len(scores.rows) - limit)[len(scores.rows) - limit]
        scores = _only(scores, scores.scores >= least)
    return _only(scores, np.lexsort((scores.rows, -scores.scores))[:limit])


def _only(scores: Ranked, chosen: npt.NDArray[Any]) -> Ranked:
    return Ranked(scores.rows[chosen], scores.scores[chosen])


def _summed(parts: Sequence[Ranked], count: int) -> Ranked:
    """The scores of all words together."""
    filled = [part for part in parts if len(part.rows)]
    if len(filled) <= 1:
        return filled[0] if filled else parts[0]
    rows = np.concatenate([part.rows for part in filled])
    if DENSE_SHARE * len(rows) < count:
        rows, places = np.unique(rows, return_inverse=True)
        return Ranked(rows, np.bincount(places, np.concatenate([part.scores for part in filled])).astype(np.float32))
    scores = np.zeros(count, np.float32)
    for part in filled:
        scores[part.rows] += part.scores
    rows = np.flatnonzero(scores)
    return Ranked(rows, scores[rows])


def _stems(columns: Readable, name: str, words: Sequence[str]) -> Sequence[str]:
    declared = columns.fields.get(name)
    return stemmed(words, declared.language if declared else "")


def _texts_of(columns: Readable, name: str, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The rows that have a text or keyword, ascending, and how many words each of them has in all."""
    texts, keywords = columns.texts(name, count), columns.values(name, FieldType.KEYWORD, count)
    if keywords is None or keywords.words is None:
        return (texts.rows, texts.lengths) if texts is not None else (np.empty(0, np.int32), np.empty(0, np.int32))
    lengths, some = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    rows = keywords.rows_of(np.arange(len(keywords.values)))
    lengths += np.bincount(rows, keywords.words().lengths()[keywords.values], minlength=count).astype(np.int64)
    some[rows] = True
    if texts is not None:
        lengths[texts.rows] += texts.lengths
        some[texts.rows] = True
    return np.flatnonzero(some), lengths[some]


def _occurrences(columns: Readable, name: str, stem: str, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The rows that have a word, ascending, and how often, in texts and keywords together."""
    texts, keywords = columns.texts(name, count), columns.values(name, FieldType.KEYWORD, count)
    code = texts.postings.terms.code_of(stem) if texts is not None else UNKNOWN
    found = [texts.postings.of(code)] if texts is not None and code != UNKNOWN else []
    if keywords is None or keywords.words is None:
        return found[0] if found else (np.empty(0, np.int32), np.empty(0, np.uint16))
    found.append(_in_keywords(keywords, *keywords.words().having(stem)))
    rows, places = np.unique(np.concatenate([each[0] for each in found]), return_inverse=True)
    return rows, np.bincount(places, np.concatenate([each[1] for each in found]))


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
