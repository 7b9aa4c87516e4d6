"""What the models that run here make of a request: vectors, or an answer whole or piece by piece."""

from collections.abc import Sequence

from ergonaut.errors import Refused
from ergonaut.ids import new_id
from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.text.sampling import Sampling
from ergonaut_gateway.openai.domain.measured import BrokenOff, measured_of
from ergonaut_gateway.openai.errors import wrong
from ergonaut_gateway.openai.local.forms import ChatForm, CompletionForm, EmbeddingsForm, read, texts_of
from ergonaut_gateway.openai.local.models import LocalModels
from ergonaut_gateway.openai.local.upstreams import Answer, LocalUpstream, Pieces
from ergonaut_gateway.openai.local.writing import Writing, embeddings
from ergonaut_gateway.openai.routes import OnnxConfig, RouteConfig
from ergonaut_gateway.openai.upstream import Asked
from ergonaut_gateway.ports import LanguageModel
from ergonaut_gateway.service.embedding import EmbeddingModel
from ergonaut_gateway.service.generation import Bounds, Ended, Wanted

EMBEDDINGS, CHAT, COMPLETIONS = "embeddings", "chat/completions", "completions"


def local_upstream(
    name: str, config: OnnxConfig, route: RouteConfig, models: LocalModels, clock: Clock
) -> LocalUpstream:
    """What runs here for a route. Raises Refused where its files are missing."""
    made = Vectors(name, config, models) if config.tokenizer is not None else Answers(name, config, models, clock)
    return LocalUpstream(name, config, route, made, clock)


class Vectors:
    """Makes vectors by a model of the registry. Fills `Made`."""

    def __init__(self, name: str, config: OnnxConfig, models: LocalModels) -> None:
        assert config.tokenizer is not None, "the route's file was checked"
        model = EmbeddingModel(
            config.model or name,
            config.version,
            config.pooling,
            config.normalized,
            config.tokens_max,
            config.truncated,
            config.output,
        )
        self._name = name
        self._tenant = config.tenant
        self._embedding = models.embedding(config.tokenizer, model)

    async def pieces(self, asked: Asked, answer: Answer) -> Pieces:
        """The vectors, in one piece."""
        if asked.path != EMBEDDINGS:
            raise wrong(f"{self._name} makes vectors and no answers; ask embeddings", "model")
        form = read(EmbeddingsForm, asked.body)
        texts = texts_of(form.input, "input")
        tenant = self._tenant or asked.tenant
        embedded = await self._embedding.embed(tenant, texts, form.dimensions, asked.until_seconds)
        answer.used = measured_of(embedded.footprint)
        yield embeddings(self._name, embedded.vectors, embedded.tokens, is_base64=form.encoding_format == "base64")


class Answers:
    """Makes answers by a model of a folder. Fills `Made`."""

    def __init__(self, name: str, config: OnnxConfig, models: LocalModels, clock: Clock) -> None:
        assert config.folder is not None, "the route's file was checked"
        bounds = Bounds(config.at_once, config.waiting_max, config.threads)
        self._name = name
        self._models = models
        self._clock = clock
        self._generation = models.generation(name, config.folder, bounds, config.context_tokens_max)

    async def pieces(self, asked: Asked, answer: Answer) -> Pieces:
        """The answer as events where it is streamed, else in one piece."""
        if asked.path == EMBEDDINGS:
            raise wrong(f"{self._name} is not an embedding model; ask {CHAT} or {COMPLETIONS}", "model")
        is_chat = asked.path == CHAT
        form = read(ChatForm, asked.body) if is_chat else read(CompletionForm, asked.body)
        writing = Writing(
            new_id("chatcmpl" if is_chat else "cmpl"), self._name, int(self._clock.now().timestamp()), is_chat
        )
        answering = self._generation.submit(wanted_of(form))
        try:
            begun, whole = False, ""
            while not isinstance(heard := await answering.next(), Ended):
                if not asked.streams:
                    whole += heard
                    continue
                yield writing.piece(heard) if begun else writing.begun() + writing.piece(heard)
                begun = True
            answer.used = measured_of(self._models.footprint(heard.cpu_seconds))
            if not asked.streams:
                yield writing.whole(whole, heard)
            else:
                yield writing.ended(heard) if begun else writing.begun() + writing.ended(heard)
        finally:
            answer.part = self._part(await answering.let_go())

    def _part(self, taken: Ended) -> BrokenOff | None:
        """What an answer took of which its reader may not have come to know."""
        if not taken.tokens_in:
            return None
        measured = measured_of(self._models.footprint(taken.cpu_seconds))
        return BrokenOff(taken.tokens_in, taken.tokens_out, measured)


def wanted_of(form: ChatForm | CompletionForm) -> Wanted:
    """What a request wants. Raises OpenAiError for what is not offered."""
    form.check()
    sampling = Sampling(
        _or(form.temperature, 1.0),
        _or(form.top_p, 1.0),
        _or(form.frequency_penalty, 0.0),
        _or(form.presence_penalty, 0.0),
        form.seed,
    )
    if isinstance(form, ChatForm):
        messages = form.conversation
        return Wanted(lambda model: model.conversation(messages), form.tokens_max, sampling, form.stops)
    prompt = form.text
    return Wanted(lambda model: _tokens(model, prompt), form.tokens_max, sampling, form.stops)


def _tokens(model: LanguageModel, prompt: str | Sequence[int]) -> Sequence[int]:
    if isinstance(prompt, str):
        return model.tokenizer.tokens(prompt)
    size = model.tokenizer.size
    if not all(0 <= token < size for token in prompt):
        raise Refused(f"has tokens outside 0 to {size - 1}", field="prompt")
    return prompt


def _or(told: float | None, otherwise: float) -> float:
    return otherwise if told is None else told
