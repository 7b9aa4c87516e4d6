"""What models that run here are to the door: made by `assembly`, which alone knows files and libraries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ergonaut_gateway.service.embedding import Embedding, EmbeddingModel
from ergonaut_gateway.service.generation import Bounds, Generation


class LocalModels(Protocol):
    """Makes what answers for the routes' models that run here."""

    def embedding(self, tokenizer: Path, model: EmbeddingModel) -> Embedding:
        """What makes vectors. Raises Refused where the tokenizer cannot be read."""
        ...

    def generation(self, name: str, folder: Path, bounds: Bounds, context_tokens_max: int | None) -> Generation:
        """What answers by a folder's model. Raises Refused where something is missing in the folder."""
        ...

    def footprint(self, cpu_seconds: float) -> Mapping[str, Any]:
        """What so much CPU time used."""
        ...
