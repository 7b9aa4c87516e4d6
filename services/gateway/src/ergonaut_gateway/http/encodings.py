"""How an answer is packed for a caller, as its Accept-Encoding has it. Used by the HTTP door."""

from functools import lru_cache

from ergonaut_common.h2.bodies import ENCODINGS


@lru_cache(maxsize=256)
def encoding_wanted(accepted: str) -> str:
    """The encoding for an answer to a caller with this Accept-Encoding; empty where it wants none that we have.

    >>> encoding_wanted("deflate;q=0.5, gzip"), encoding_wanted("gzip;q=0, br"), encoding_wanted("*")
    ('gzip', '', 'gzip')
    """
    weights = {}
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = _weight(parameter)
    wanted = {name: weights.get(name, weights.get("*", 0.0)) for name in ENCODINGS}
    best = max(wanted, key=wanted.__getitem__)
    return best if wanted[best] > 0 else ""


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
