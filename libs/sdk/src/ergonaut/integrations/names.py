"""Names that a tool takes: programs call their metrics `top@5` or `map[0.5]`, and many a tool refuses the whole batch for one."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, count
from typing import TypeVar

T = TypeVar("T")

_UP = ("", ".", "..")
_INSTEAD = "_"


class Names:
    """Gives each figure a name that the tool takes: always the same, and never one that is another's or a folder of another's.

    Tools keep names as paths, so that `a` and `a/b` cannot both be figures, and parts such as `..` are none.
    """

    def __init__(self, refused: str = "", length_max: int = 1000) -> None:
        """`refused` is a pattern of the characters that the tool does not take."""
        self._refused = re.compile(refused) if refused else None
        self._length_max = length_max
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()
        self._folders: set[str] = set()

    def of(self, figures: Mapping[str, T]) -> dict[str, T]:
        """The figures under the tool's names; a name that can stay as it is goes before one that cannot."""
        new = [name for name in figures if name not in self._given]
        for name in sorted(new, key=lambda name: self._cleaned(name) != name):
            self._give(name)
        return {self._given[name]: value for name, value in figures.items()}

    def _give(self, name: str) -> None:
        given = next(each for each in self._tries(self._cleaned(name)) if each not in self._taken | self._folders)
        self._given[name] = given
        self._taken.add(given)
        self._folders.update(_folders(given))

    def _tries(self, name: str) -> Iterator[str]:
        figure = next((folder for folder in _folders(name) if folder in self._taken), None)
        if figure is not None:
            name = figure + name[len(figure) :].replace("/", _INSTEAD)
        numbered = (f"{name[: self._length_max - len(str(number)) - 1]}{_INSTEAD}{number}" for number in count(2))
        return chain([name], numbered)

    def _cleaned(self, name: str) -> str:
        name = self._refused.sub(_INSTEAD, name) if self._refused else name
        name = "/".join(_INSTEAD if part in _UP else part for part in name.split("/"))
        return name if len(name) <= self._length_max else name[: self._length_max].rstrip("/.")


def _folders(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
