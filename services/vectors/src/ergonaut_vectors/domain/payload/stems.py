"""Words reduced to their stems, so that "running" finds "runs". By Snowball's stemmers, the extra `text-search`."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ergonaut.errors import Refused, Unavailable


def languages() -> list[str]:
    """The languages whose words can be reduced; none without the extra."""
    try:
        import Stemmer
    except ImportError:
        return []
    return sorted(Stemmer.algorithms())


def check_language(language: str, where: str) -> None:
    """Raise Refused unless words of this language can be reduced here."""
    known = languages()
    if language and language not in known:
        told = f"known are {', '.join(known)}" if known else "install ergonaut-vectors[text-search] for it"
        raise Refused(f"is {language!r}, of which no stems are known; {told}", field=where)


def stemmed(words: Sequence[str], language: str) -> Sequence[str]:
    """The stems of words; the words themselves where no language was named."""
    if not language:
        return words
    stems: Sequence[str] = _stemmer(language).stemWords(words)
    return stems


@lru_cache(maxsize=32)  # as many as there are languages
def _stemmer(language: str) -> Any:
    try:
        import Stemmer
    except ImportError as error:
        raise Unavailable("a text field has a language, and ergonaut-vectors[text-search] is not installed") from error
    return Stemmer.Stemmer(language)
