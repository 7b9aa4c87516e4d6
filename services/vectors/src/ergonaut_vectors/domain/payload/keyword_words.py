"""Which keywords have which words: what searches for words in strings that were not declared as texts go by.

Made when it is first asked for, and added to as keywords are; a column that is often searched by words is better declared a text.
"""

import threading
from collections import Counter

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload.arrays import GrowingArray
from ergonaut_vectors.domain.payload.terms import UNKNOWN, GrowingTerms, Terms, words_of

COUNT_MAX = np.iinfo(np.uint16).max


class KeywordWords:
    """The words of a column's keywords. Any thread asks; the first to need more keywords reads them."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._words = GrowingTerms()
        self._codes = GrowingArray(np.dtype(np.int32))
        self._keywords = GrowingArray(np.dtype(np.int32))
        self._times = GrowingArray(np.dtype(np.uint16))
        self._lengths = GrowingArray(np.dtype(np.int32))
        # Held while keywords are read, which happens once for each of them; others wait, rather than do the same.
        self._reading = threading.Lock()

    def lengths(self) -> npt.NDArray[np.int32]:
        """Words of each keyword."""
        self._read()
        return self._lengths.taken()

    def having(self, word: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        """The codes of the keywords that have a word, and how often."""
        self._read()
        code = self._words.code_of(word)
        if code == UNKNOWN:
            return np.empty(0, np.int32), np.empty(0, np.uint16)
        keywords = self._keywords.taken()
        chosen = np.flatnonzero(self._codes.taken(len(keywords)) == code)
        return keywords[chosen], self._times.taken(len(keywords))[chosen]

    def _read(self) -> None:
        if len(self._lengths.taken()) >= len(self._terms):
            return
        with self._reading:
            known = len(self._lengths.taken())
            counters = [Counter(words_of(self._terms[code])) for code in range(known, len(self._terms))]
            self._codes.extend([self._words.add(word) for counter in counters for word in counter])
            self._times.extend([min(times, COUNT_MAX) for counter in counters for times in counter.values()])
            self._keywords.extend([code for code, counter in enumerate(counters, known) for _ in counter])
            self._lengths.extend([counter.total() for counter in counters])
