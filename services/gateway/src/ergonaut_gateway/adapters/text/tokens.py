"""The `tokenizers` library behind the ports `Tokenizer` and `Spelling`: it reads the tokenizer.json that models come with."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Loaded
from tokenizers.decoders import DecodeStream

from ergonaut.errors import Refused

REASON_CHARACTERS_MAX = 200
"""Of what the library says of a file."""

SEEN_TOKENS = 16
"""Of what comes before an answer: as many as may be one character, and some more."""


class FileTokenizer:
    """Fills `Tokenizer`."""

    def __init__(self, path: Path, *, truncated_to: int | None = None) -> None:
        """Read a tokenizer.json; longer texts are cut to so many tokens, marks of beginning and end included, where that is
        wanted. Raises Refused, with the file and why, where it is none."""
        try:
            loaded = Loaded.from_file(str(path))
        except Exception as error:
            # The library raises bare exceptions; whichever it is, the file is at fault.
            reason = (str(error).splitlines() or [""])[0][:REASON_CHARACTERS_MAX]
            raise Refused(f"cannot read the tokenizer {path}: {reason}") from error
        # What a file says of both is for training.
        loaded.no_truncation()
        if truncated_to is not None:
            loaded.enable_truncation(truncated_to)
        loaded.no_padding()
        self._loaded = loaded
        self.size = int(loaded.get_vocab_size(with_added_tokens=True))

    def tokens(self, text: str, *, special: bool = True) -> list[int]:
        return list(self._loaded.encode(text, add_special_tokens=special).ids)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self._loaded.decode(list(tokens), skip_special_tokens=True))

    def spelling(self, after: Sequence[int] = ()) -> "StreamedSpelling":
        return StreamedSpelling(self._loaded, after)


class StreamedSpelling:
    """Fills `Spelling`."""

    def __init__(self, loaded: Loaded, after: Sequence[int]) -> None:
        self._loaded = loaded
        # Some tokenizers leave out the space at the beginning of a text, which the middle of one must have.
        self._stream = DecodeStream(list(after[-SEEN_TOKENS:]), skip_special_tokens=True)

    def add(self, token: int) -> str:
        # None while the last character is not whole.
        return self._stream.step(self._loaded, token) or ""
