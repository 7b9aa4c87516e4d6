"""The distinct strings of a column and their codes, and the words of a text. Columns keep codes; these give them meaning."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""The code of a string that a column does not have."""

TOKEN_CHARACTERS_MAX = 64
"""Longer runs of letters are encoded data, not words; they are cut, so that they still find themselves."""

# Chinese, Japanese and Korean are written without spaces: there each character stands for a word of its own.
_WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)


def words_of(text: str) -> list[str]:
    """The words of a text, in order, without case and marks of width; nothing but letters and digits makes words."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return [word[:TOKEN_CHARACTERS_MAX] for word in _WORDS.findall(plain.casefold())]


class Terms(Protocol):
    """Strings by code. A code once given stays."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]:
        """The strings, by code."""
        ...

    def __getitem__(self, code: int) -> str: ...

    def code_of(self, text: str) -> int:
        """The string's code; UNKNOWN where there is none."""
        ...


class GrowingTerms:
    """Strings in the order in which they came. One writer adds, any thread reads."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        # Threads may read while the writer adds: by number, not by an iterator over what changes.
        return (self._texts[code] for code in range(len(self._texts)))

    def __getitem__(self, code: int) -> str:
        return self._texts[code]

    def code_of(self, text: str) -> int:
        return self._codes.get(text, UNKNOWN)

    def add(self, text: str) -> int:
        """The string's code, a new one where it had none."""
        code = self._codes.get(text)
        if code is None:
            code = len(self._texts)
            self._texts.append(text)  # before its code is known: who finds the code finds the string
            self._codes[text] = code
        return code


class FrozenTerms:
    """Sorted strings in two arrays, as files have them. Looked up without making any of the others into objects."""

    def __init__(self, blob: npt.NDArray[np.uint8], offsets: npt.NDArray[Any]) -> None:
        self.blob = blob
        self.offsets = offsets
        # Views, for one entry at a time is read: NumPy would make an object of each offset first.
        self._bytes, self._ends = blob.data, offsets.data

    @classmethod
    def of(cls, texts: Sequence[str]) -> "FrozenTerms":
        """The strings, which must be sorted by their UTF-8 bytes, as Python sorts them by code points."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(each) for each in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        ends = self.offsets.tolist()
        return (str(self._bytes[start:end], "utf-8") for start, end in pairwise(ends))

    def __getitem__(self, code: int) -> str:
        return self._at(code).decode()

    def code_of(self, text: str) -> int:
        encoded = text.encode(errors="surrogatepass")
        code = bisect_left(range(len(self)), encoded, key=self._at)
        return code if code < len(self) and self._at(code) == encoded else UNKNOWN

    def _at(self, code: int) -> bytes:
        return self._bytes[self._ends[code] : self._ends[code + 1]].tobytes()
