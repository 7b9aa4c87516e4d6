"""Bytes made wrong: whole ones are changed here and there, JSON by its structure. All of it follows from draws of a `Random`,
so that a number, hypothesis or a fuzzer that watches the code may be who draws."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

Draw = random.Random

EDITS_MAX = 4
"""Changes to one body; with more, hardly any gets past the first check."""

SPAN_BYTES_MAX = 64
"""Of a piece that is cut out or doubled."""

NESTED = (17, 200, 1_500, 60_000)
"""How deep lists are nested: beyond the axes of a tensor, beyond what is usual, beyond each parser's bound, far beyond."""

TOKENS = (
    b"\x00", b"\xff", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b'"', b"\\", b"{", b"}", b"[", b"]", b"-", b"0", b"1e999",
    b"null", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"%00", b"%2f",
)  # fmt: skip


class Fed(Draw):
    """Draws that are spelt out by given bytes, so that whoever chooses the bytes chooses the case; zeros where they run out."""

    def __init__(self, given: bytes) -> None:
        super().__init__(0)
        self._given = given
        self._at = 0

    def getrandbits(self, k: int, /) -> int:
        size_bytes = (k + 7) // 8
        piece = self._given[self._at : self._at + size_bytes].ljust(size_bytes, b"\0")
        self._at += size_bytes
        return int.from_bytes(piece, "big") >> (8 * size_bytes - k)

    def random(self) -> float:
        return float(self.getrandbits(53) / 2**53)


def changed(draw: Draw, whole: bytes, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """The bytes with one to some changes."""
    out = bytearray(whole)
    for _ in range(draw.randint(1, EDITS_MAX)):
        _EDITS[draw.randrange(len(_EDITS))](draw, out, tokens)
    return bytes(out)


def _flip(draw: Draw, out: bytearray, _: Sequence[bytes]) -> None:
    if out:
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)


def _replace(draw: Draw, out: bytearray, _: Sequence[bytes]) -> None:
    if out:
        out[draw.randrange(len(out))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _insert(draw: Draw, out: bytearray, tokens: Sequence[bytes]) -> None:
    at = draw.randint(0, len(out))
    out[at:at] = draw.choice(tokens) if draw.randrange(4) else draw.randbytes(draw.randint(1, 9))


def _cut(draw: Draw, out: bytearray, _: Sequence[bytes]) -> None:
    at = draw.randint(0, len(out))
    del out[at : at + draw.randint(1, SPAN_BYTES_MAX)]


def _double(draw: Draw, out: bytearray, _: Sequence[bytes]) -> None:
    at, size = draw.randint(0, len(out)), draw.randint(1, SPAN_BYTES_MAX)
    out[at:at] = out[at : at + size]


def _end(draw: Draw, out: bytearray, _: Sequence[bytes]) -> None:
    del out[draw.randint(0, len(out)) :]


_EDITS: tuple[Callable[[Draw, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _replace, _replace, _insert, _insert, _cut, _double, _end,
)  # fmt: skip


class Word(bytes):
    """JSON, or what is to pass for it, that is written as it stands."""


class Pair(list[Any]):
    """A key and its value, and maybe more."""


class Pairs(list[Any]):
    """A JSON object as pairs, whose keys may come twice or be no text."""


WHOLE_NUMBERS = (
    -(2**63) - 1, -(2**31), -2, -1, 0, 1, 2, 3, 4, 15, 16, 17, 127, 128, 255, 256, 65_536, 2**31 - 1, 2**31, 2**32, 2**53 + 1,
    2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400,
)  # fmt: skip

WORDS = tuple(
    Word(word)
    for word in (
        b"NaN", b"Infinity", b"-Infinity", b"-0", b"1e999", b"-1e-999", b"1.0", b"01", b"+1", b".5", b"1.", b"0x10", b"1_0", b"",
        b"nul", b"tru", b"'x'", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\\u0000"',
        b'"a\nb"', b'"\\x"',
        b'"', b"9" * 5_000, b"-" + b"9" * 5_000, b"0." + b"1" * 5_000, b"/* */ 1", b"1 // x", b"[1,]", b'{"a":1,}',
        b"[,1]", b"{1:2}",
        b"\xef\xbb\xbf1",
    )
)  # fmt: skip
"""What is no JSON, or JSON at the edge."""

TEXTS = (
    "",
    "x",
    "y",
    "FP32",
    "BYTES",
    "INT64",
    "BF16",
    "\0",
    "\u2028",
    "é",
    "\U0001f600",
    "a" * 3_000,
    "../..",
    "true",
    "1",
    "$.a",
)
"""Texts, some of which mean something somewhere."""


def tree(value: Any) -> Any:
    """A document as lists and pairs, which can be made wrong in place."""
    if isinstance(value, dict):
        return Pairs(Pair((key, tree(each))) for key, each in value.items())
    if isinstance(value, (Pairs, Pair)):
        return value
    return [tree(each) for each in value] if isinstance(value, (list, tuple)) else value


def written(value: Any) -> bytes:
    """A tree as JSON."""
    if isinstance(value, Word):
        return bytes(value)
    if isinstance(value, Pairs):
        return b"{" + b",".join(map(written, value)) + b"}"
    if isinstance(value, Pair):
        return b":".join(map(written, value))
    if isinstance(value, list):
        return b"[" + b",".join(map(written, value)) + b"]"
    if isinstance(value, int) and abs(value) >= 2**64:
        return str(value).encode()
    return json.dumps(value).encode()


def document_changed(draw: Draw, document: Any) -> bytes:
    """A document with one to some changes of its structure, as JSON."""
    root = [tree(document)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = _places(root)
        if not places:
            return b""
        holder, at = places[draw.randrange(len(places))]
        _TREE_EDITS[draw.randrange(len(_TREE_EDITS))](draw, holder, at)
    return written(root[0]) if root else b""


Place = tuple[list[Any], int]


def _places(root: list[Any]) -> list[Place]:
    """Where something stands that can be replaced: elements of lists, pairs of objects, their keys and values."""
    found: list[Place] = []
    waiting: list[list[Any]] = [root]
    while waiting:
        holder = waiting.pop()
        for at, each in enumerate(holder):
            found.append((holder, at))
            if isinstance(each, list):
                waiting.append(each)
    return found


def value_drawn(draw: Draw) -> Any:
    """Anything JSON may hold, and what it may not."""
    return _VALUES[draw.randrange(len(_VALUES))](draw)


def _nested(draw: Draw) -> Word:
    depth = draw.choice(NESTED)
    if draw.randrange(2):
        return Word(b'{"a":' * min(depth, 3_000) + b"1")
    return Word(b"[" * depth + b"]" * (depth if draw.randrange(3) else 0))


def _empty(draw: Draw) -> Any:
    return draw.choice((None, True, False, [], Pairs(), [None], [[]], Pairs([Pair(("a", 1))])))


_VALUES: tuple[Callable[[Draw], Any], ...] = (
    lambda draw: draw.choice(WORDS),
    _nested,
    _empty,
    lambda draw: draw.choice(WHOLE_NUMBERS),
    lambda draw: draw.choice(WHOLE_NUMBERS),
    lambda draw: draw.choice((0.5, -1.5, 3.5e38, 1e308, -0.0, 65_520.0, 1e-320)),
    lambda draw: [draw.choice(WHOLE_NUMBERS) for _ in range(draw.randrange(20))],
    lambda draw: draw.choice(TEXTS),
)


def _tree_replace(draw: Draw, holder: list[Any], at: int) -> None:
    holder[at] = value_drawn(draw)


def _tree_drop(_: Draw, holder: list[Any], at: int) -> None:
    del holder[at]


def _tree_wrap(draw: Draw, holder: list[Any], at: int) -> None:
    holder[at] = [holder[at]] if draw.randrange(2) else Pairs([Pair(("a", holder[at]))])


def _tree_double(draw: Draw, holder: list[Any], at: int) -> None:
    each = holder[at]
    if isinstance(each, list) and each:
        each.append(each[draw.randrange(len(each))])
    else:
        holder[at] = [each] * draw.choice((2, 16, 300))


def _tree_number(draw: Draw, holder: list[Any], at: int) -> None:
    each = holder[at]
    if isinstance(each, int) and not isinstance(each, bool):
        holder[at] = draw.choice((each + 1, each - 1, -each, each * 2**31, draw.choice(WHOLE_NUMBERS)))
    else:
        holder[at] = draw.choice(WHOLE_NUMBERS)


def _tree_rename(draw: Draw, holder: list[Any], at: int) -> None:
    each = holder[at]
    if isinstance(each, Pair) and each:
        each[0] = draw.choice((*TEXTS, "name", "data", "shape", "parameters", 7, None))
    else:
        holder[at] = draw.choice(TEXTS)


_TREE_EDITS: tuple[Callable[[Draw, list[Any], int], None], ...] = (
    _tree_replace, _tree_replace, _tree_replace, _tree_drop, _tree_wrap, _tree_double, _tree_number, _tree_rename,
)  # fmt: skip
