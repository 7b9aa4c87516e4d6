"""Cases by number: which kind comes next, and how its bytes are cut. The same number gives the same case, whoever asks."""

import random

from . import calls, requests
from .doors import Case
from .drawing import Draw

KINDS = {**requests.KINDS, **calls.KINDS}
_NAMES = tuple(KINDS)
_SHARES = tuple(share for share, _ in KINDS.values())
_TOTAL = sum(_SHARES)


def numbered(number: int, seed: int, key: str) -> Case:
    """The case of a number."""
    return drawn(random.Random((seed << 40) + number), key)


def drawn(draw: Draw, key: str) -> Case:
    """A case of any kind, by the shares of all."""
    left = draw.randrange(_TOTAL)
    kind = _NAMES[-1]
    for name, share in zip(_NAMES, _SHARES, strict=True):
        left -= share
        if left < 0:
            kind = name
            break
    return of_kind(kind, draw, key)


def of_kind(kind: str, draw: Draw, key: str) -> Case:
    """A case of one kind."""
    sent = KINDS[kind][1](draw, key)
    if kind == "again":
        return Case(kind, sent, -1)
    pieces = draw.choice((0, 0, 0, 1, 7, 1_000))
    # One byte at a time is for what is short; a large body so cut would only cost time.
    return Case(kind, sent, pieces if len(sent) < 2_000 * max(pieces, 1) else 0)
