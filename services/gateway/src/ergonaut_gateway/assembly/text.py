"""Text models that run in this process: what makes vectors with models of the registry, and what answers by models of folders."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ergonaut.errors import Refused
from ergonaut_gateway.domain.energy import footprint
from ergonaut_gateway.ports import LanguageModel
from ergonaut_gateway.service import Predictions

if TYPE_CHECKING:
    from ergonaut_gateway.service.embedding import Embedding, EmbeddingModel
    from ergonaut_gateway.service.generation import Bounds, Generation

NEEDED = ("jinja2", "tokenizers")
"""What the extra `text` brings."""

STOP_SECONDS = 5.0
"""How long a model's thread is waited for when the gateway stops: a run is told to end, and looks for that at each operator."""


class TextModels:
    """Fills `LocalModels` of the OpenAI-compatible door. What text models need is loaded with the first of them."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._generations: list[Generation] = []

    def embedding(self, tokenizer: Path, model: "EmbeddingModel") -> "Embedding":
        _check_extra()
        from ergonaut_gateway.adapters.text.tokens import FileTokenizer
        from ergonaut_gateway.service.embedding import Embedding

        cut_to = model.tokens_max if model.truncated else None
        return Embedding(self._predictions, FileTokenizer(tokenizer, truncated_to=cut_to), model)

    def generation(self, name: str, folder: Path, bounds: "Bounds", context_tokens_max: int | None) -> "Generation":
        _check_extra()
        from ergonaut_gateway.adapters.text.folders import folder_of
        from ergonaut_gateway.service.generation import Generation

        # What is missing is told when the gateway starts; what takes time and memory is loaded when the model is first asked.
        folder_of(folder)

        def load() -> LanguageModel:
            from ergonaut_gateway.adapters.text.models import FolderModel

            return FolderModel(folder, threads=bounds.threads, context_tokens_max=context_tokens_max)

        made = Generation(name, load, bounds)
        self._generations.append(made)
        return made

    def footprint(self, cpu_seconds: float) -> Mapping[str, Any]:
        return footprint(self._predictions.energy.rate(), cpu_seconds, is_measured=True)

    def cpu_seconds(self) -> float:
        """CPU time of all that answered so far."""
        return sum(generation.cpu_seconds for generation in self._generations)

    async def close(self) -> None:
        """Answer what is left and end the threads."""
        for generation in self._generations:
            generation.close()
        for generation in self._generations:
            await generation.closed(within_seconds=STOP_SECONDS)


@asynccontextmanager
async def text_models(predictions: Predictions) -> AsyncIterator[TextModels]:
    """Text models while the block runs; their CPU time is theirs and no request's for a prediction."""
    models = TextModels(predictions)
    predictions.energy.elsewhere = models.cpu_seconds
    try:
        yield models
    finally:
        await models.close()


def _check_extra() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Refused(f"text models need {', '.join(missing)}; install ergonaut-gateway[text]")
