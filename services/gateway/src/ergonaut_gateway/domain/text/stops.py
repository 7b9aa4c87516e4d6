"""Where an answer ends by its words: text is held back as long as it could be the beginning of what ends it."""

from collections.abc import Sequence


class Stops:
    """Passes the text of an answer on, up to the first of the words that end it.

    >>> stops = Stops(["END"])
    >>> stops.passed("one E"), stops.passed("two EN"), stops.passed("D three"), stops.met
    ('one ', 'Etwo ', '', True)
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.met = False
        self._words = tuple(words)
        self._held = ""

    def passed(self, text: str) -> str:
        """What is surely part of the answer by now."""
        if self.met or not self._words:
            return "" if self.met else text
        held = self._held + text
        found = [at for at in map(held.find, self._words) if at >= 0]
        if found:
            self.met = True
            self._held = ""
            return held[: min(found)]
        keep = max(_beginning_at_end(held, word) for word in self._words)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def rest(self) -> str:
        """What was held back, once no more text comes."""
        rest, self._held = self._held, ""
        return rest


def _beginning_at_end(text: str, word: str) -> int:
    """How many of the text's last characters are the first of the word."""
    return next((count for count in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:count])), 0)
