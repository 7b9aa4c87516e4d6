"""Ranking by words: the scores are those of a library that we did not write, however the texts are parted."""

from collections.abc import Sequence

import bm25s
import numpy as np
import pytest

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Columns, Readable
from ergonaut_vectors.domain.payload.fields import Field, Fields, FieldType
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.payload.making import columns_of, joined
from ergonaut_vectors.domain.payload.ranking import (
    Ranked,
    Statistics,
    best,
    combined,
    query_words,
    scores_of,
    statistics_of,
)
from ergonaut_vectors.domain.payload.terms import words_of


def every(columns: Readable, words: Sequence[str], known: Statistics, count: int) -> np.ndarray:
    """A score for each row."""
    scores = np.zeros(count, np.float32)
    found = scores_of(columns, "body", words, known, count)
    scores[found.rows] = found.scores
    return scores


TEXT = {"body": Field(FieldType.TEXT)}
QUERIES = ["word1 word2 word30", "word7", "word0 word0 absent", "WORD3, word4!"]


def texts(count: int, *, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"word{number}" for number in random.zipf(1.4, random.integers(1, 50)) % 50) for _ in range(count)]


def column(bodies: list[str]) -> Columns:
    return columns_of([{"body": body} for body in bodies], TEXT)


@pytest.mark.parametrize("fields", [TEXT, {}], ids=["declared", "not"])
@pytest.mark.parametrize("query", QUERIES)
def test_scores_over_several_parts_are_those_of_bm25s_over_all(query: str, fields: Fields) -> None:
    """Strings that nobody declared are keywords or texts, by their length, and rank all the same."""
    bodies, words = texts(300, seed=1), query_words(query)
    head = GrowingColumns(fields)
    head.append([{"body": body} for body in bodies[200:]])
    parts: list[Readable] = [
        columns_of([{"body": body} for body in part], fields) for part in (bodies[:50], bodies[50:200])
    ]
    parts.append(head)
    known = combined(statistics_of(part, "body", words, part.count) for part in parts)
    scores = np.concatenate([every(part, words, known, part.count) for part in parts])

    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index([words_of(body) for body in bodies], show_progress=False)
    np.testing.assert_allclose(scores, peer.get_scores(list(words)), rtol=1e-5, atol=1e-6)


def test_the_best_are_taken_of_those_allowed_and_equal_ones_by_row() -> None:
    scores = Ranked(np.arange(1, 6), np.array([2, 1, 2, 3, 2], np.float32))
    assert best(scores, 3).rows.tolist() == [4, 1, 3]
    assert best(scores, 9).rows.tolist() == [4, 1, 3, 5, 2]
    assert best(scores, 2, bits.of_rows(np.array([0, 2, 3]), 6)).rows.tolist() == [3, 2]


def test_words_of_one_stem_are_asked_for_once() -> None:
    pytest.importorskip("Stemmer")
    english = columns_of([{"body": "He runs"}, {"body": "walking"}], {"body": Field(FieldType.TEXT, "english")})
    words = query_words("run running")
    known = statistics_of(english, "body", words, 2)
    once = statistics_of(english, "body", ("run",), 2)
    scores = every(english, words, known, 2)
    assert scores[1] == 0
    assert scores.tolist() == every(english, ("run",), once, 2).tolist()


def test_texts_rank_the_same_after_a_merge() -> None:
    bodies, words = texts(60, seed=2), query_words("word1 word5")
    one, other = column(bodies[:20]), column(bodies[20:])
    merged = joined([(one, np.arange(20)), (other, np.arange(40))], TEXT)
    known = combined(statistics_of(part, "body", words, part.count) for part in (one, other))
    assert known == statistics_of(merged, "body", words, 60)
    scores = [every(part, words, known, part.count) for part in (one, other)]
    assert np.concatenate(scores).tolist() == every(merged, words, known, 60).tolist()


def test_a_row_with_several_strings_is_one_text() -> None:
    long = "word1 " * 60
    columns = columns_of([{"body": ["word1 word2", "word2", long]}, {"body": "word2"}])
    known = statistics_of(columns, "body", ("word1", "word2"), 2)
    assert known == Statistics(2, 64, {"word1": 1, "word2": 2})
    joined_up = column([long + "word1 word2 word2", "word2"])
    expected = every(joined_up, ("word1", "word2"), known, 2)
    np.testing.assert_allclose(every(columns, ("word1", "word2"), known, 2), expected)


def test_a_field_without_texts_ranks_nothing() -> None:
    columns = columns_of([{"body": 5}], TEXT)
    known = statistics_of(columns, "body", ("word1",), 1)
    assert best(scores_of(columns, "body", ("word1",), known, 1), 5).rows.tolist() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red-Fox's 2nd", ["red", "fox", "s", "2nd"]),
        ("Straße \uff26\uff35\uff2c\uff2c", ["strasse", "full"]),
        ("東京tower", ["東", "京", "tower"]),
        ("snake_case", ["snake", "case"]),
        ("...", []),
        ("a" * 100, ["a" * 64]),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, words: list[str]) -> None:
    assert words_of(text) == words
