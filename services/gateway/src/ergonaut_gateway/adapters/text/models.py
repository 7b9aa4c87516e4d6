"""A language model of a folder, behind the port `LanguageModel`: decoder, tokenizer, and how conversations are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ergonaut.errors import Refused
from ergonaut_gateway.adapters.text.decoding import OnnxDecoder
from ergonaut_gateway.adapters.text.folders import folder_of
from ergonaut_gateway.adapters.text.templates import chat_template
from ergonaut_gateway.adapters.text.tokens import FileTokenizer


class FolderModel:
    """Fills `LanguageModel`."""

    def __init__(self, folder: Path, *, threads: int, context_tokens_max: int | None = None) -> None:
        """Load a folder; the context is at most what is told and what the model has. Raises Refused."""
        told = folder_of(folder)
        if context_tokens_max is not None:
            told = replace(told, context_tokens_max=min(told.context_tokens_max, context_tokens_max))
        self.tokenizer = FileTokenizer(told.tokenizer)
        self._template = chat_template(folder)
        self.decoder = OnnxDecoder(told, threads=threads)

    def conversation(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        if self._template is None:
            raise Refused("this model has no chat template; ask it for completions", field="messages")
        # The template writes the marks of beginning and end itself.
        return self.tokenizer.tokens(self._template.written(messages), special=False)
