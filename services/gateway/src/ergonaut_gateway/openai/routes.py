"""The routes of the OpenAI-compatible door, read from a YAML or JSON file and checked when the gateway starts."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, HttpUrl, Tag, ValidationError, model_validator

from ergonaut.carbon.factors import yearly_factor
from ergonaut.errors import Refused
from ergonaut_gateway.domain.electricity import Electricity, Place
from ergonaut_gateway.domain.text.vectors import Pooling
from ergonaut_gateway.openai.domain.breaker import BreakerRule
from ergonaut_gateway.openai.domain.usage import Rates, TokenEnergy

T = TypeVar("T")


class _Part(BaseModel):
    # Values of the file are not shown in errors: someone may have written a key where none belongs.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Kind(StrEnum):
    """What a server is; both speak OpenAI's protocol, Ollama below /v1 of its address."""

    OPENAI = "openai"
    OLLAMA = "ollama"


class EnergyConfig(_Part):
    """Joules of one output token, with their range and who found them."""

    joules: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.joules <= self.high:
            raise ValueError("must be low <= joules <= high")
        return self


class _Figures(_Part):
    """By which answers are weighed; an upstream's own go before those of its route."""

    usd_per_million_input: float | None = Field(default=None, ge=0)
    usd_per_million_output: float | None = Field(default=None, ge=0)
    """What tokens cost; where neither is known, the electricity of an upstream that runs here."""
    joules_per_output_token: EnergyConfig | None = None
    carbon_grams_per_kwh: float | None = Field(default=None, ge=0)
    """Of the electricity where the model runs; where absent, what the hour is told to be in `zone`, else its year."""
    zone: str = ""

    @model_validator(mode="after")
    def _known_zone(self) -> Self:
        if self.zone and yearly_factor(self.zone) is None:
            raise ValueError("no carbon intensity is known for this zone; give carbon_grams_per_kwh")
        return self


class _Upstream(_Figures):
    """What all that a route may ask have in common."""

    model: str = ""
    """What the model is called there; empty is the same name."""
    weight: float = Field(default=1.0, ge=0)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_window_seconds: float = Field(default=30.0, gt=0)
    breaker_open_seconds: float = Field(default=10.0, gt=0)

    @property
    def breaker(self) -> BreakerRule:
        """When this upstream is left alone."""
        return BreakerRule(self.breaker_failures, self.breaker_window_seconds, self.breaker_open_seconds)


class UpstreamConfig(_Upstream):
    """One server that a route may ask."""

    kind: Kind = Kind.OPENAI
    url: HttpUrl
    """Its base, as https://api.openai.com/v1; of Ollama as http://127.0.0.1:11434."""
    here: bool = False
    """Whether it runs on this host, so that its energy weighs and costs what telemetry says of this host's."""
    key_env: str = ""
    key_file: str = ""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env and self.key_file:
            raise ValueError("give key_env or key_file, not both")
        if self.url.username or self.url.password:
            raise ValueError("url must hold no key; name its variable in key_env or its file in key_file")
        return self

    @property
    def base(self) -> str:
        """The address that paths such as /chat/completions are put after."""
        base = str(self.url).rstrip("/")
        return f"{base}/v1" if self.kind is Kind.OLLAMA and not base.endswith("/v1") else base


class OnnxConfig(_Upstream):
    """A model that runs in the gateway: of the registry for vectors, which needs a `tokenizer`, or of a `folder` for answers."""

    kind: Literal["onnx"]
    here: Literal[True] = True
    tokenizer: Path | None = None
    """The tokenizer.json of a model of the registry."""
    version: str = ""
    """Its version, by number or alias; empty is the one that is served by default."""
    tenant: str = ""
    """Whose it is; empty is the caller's."""
    pooling: Pooling = Pooling.MEAN
    normalized: bool = True
    """Whether vectors are made of length 1."""
    tokens_max: int = Field(default=512, ge=2, le=100_000)
    """Of one text."""
    truncated: bool = False
    """Whether longer texts are cut rather than refused."""
    output: str = ""
    """The output that is the vectors; empty finds it by its name."""
    folder: Path | None = None
    """Where the files of a model that answers are."""
    context_tokens_max: int | None = Field(default=None, ge=2)
    """Less than the model's context, so that answers take less memory."""
    at_once: int = Field(default=2, ge=1, le=64)
    """Answers that are gone on with in turn; each keeps the keys and values of its context in memory."""
    waiting_max: int = Field(default=16, ge=0)
    threads: int = Field(default=1, ge=1, le=256)

    @model_validator(mode="after")
    def _one_kind_of_model(self) -> Self:
        if (self.tokenizer is None) == (self.folder is None):
            raise ValueError(
                "give `tokenizer` for a model of the registry that makes vectors, or `folder` for one that answers"
            )
        # Where it is made use of nowhere, somebody expects what will not be.
        idle = _OF_ANSWERS if self.folder is None else _OF_VECTORS
        set_in_vain = sorted(idle & self.model_fields_set)
        if set_in_vain:
            raise ValueError(
                f"{', '.join(set_in_vain)} has no meaning beside {'tokenizer' if self.tokenizer else 'folder'}"
            )
        return self


_OF_VECTORS = {"version", "tenant", "pooling", "normalized", "tokens_max", "truncated", "output", "model"}
_OF_ANSWERS = {"context_tokens_max", "at_once", "waiting_max", "threads"}


def _sort(upstream: object) -> str:
    """Which form an upstream of the file has."""
    return "onnx" if isinstance(upstream, Mapping) and upstream.get("kind") == "onnx" else "server"


_SORTS = ("onnx", "server")

AnyUpstream = UpstreamConfig | OnnxConfig
_Sorted = Annotated[Annotated[UpstreamConfig, Tag("server")] | Annotated[OnnxConfig, Tag("onnx")], Discriminator(_sort)]


class RouteConfig(_Figures):
    """Who may ask for a model, whom it is asked of, and how it is counted."""

    upstreams: tuple[_Sorted, ...] = Field(min_length=1)
    tenants: tuple[str, ...] = ()
    """Who may use the route; empty is every tenant."""
    requests_per_minute: float | None = Field(default=None, ge=1)
    tokens_per_minute: float | None = Field(default=None, ge=1)
    at_once_max: int = Field(default=64, ge=1)
    rounds: int = Field(default=2, ge=1, le=10)
    """How often the upstreams are gone through before the caller hears of a failure."""
    connect_seconds: float = Field(default=5.0, gt=0)
    first_seconds: float = Field(default=60.0, gt=0)
    between_seconds: float = Field(default=30.0, gt=0)
    whole_seconds: float = Field(default=600.0, gt=0)

    def allows(self, tenant: str) -> bool:
        """Whether a tenant may use the route."""
        return not self.tenants or tenant in self.tenants

    def place_of(self, upstream: AnyUpstream) -> Place:
        """Where an upstream's answers are made, as far as it or the route says."""
        says = upstream if upstream.here or upstream.zone or upstream.carbon_grams_per_kwh is not None else self
        return Place(says.zone, says.carbon_grams_per_kwh, here=upstream.here)

    def rates_of(self, upstream: AnyUpstream, electricity: Electricity) -> Rates:
        """By which tokens of an upstream become figures, given what is drawn where it runs."""
        return Rates(
            _first(upstream.usd_per_million_input, self.usd_per_million_input),
            _first(upstream.usd_per_million_output, self.usd_per_million_output),
            _energy(_first(upstream.joules_per_output_token, self.joules_per_output_token)),
            electricity,
        )


def _first(own: T | None, general: T | None) -> T | None:
    return general if own is None else own


def _energy(told: EnergyConfig | None) -> TokenEnergy | None:
    return None if told is None else TokenEnergy(told.joules, told.low, told.high, told.source)


class RoutesConfig(_Part):
    """All routes, by the name of the model that callers ask for."""

    models: Annotated[dict[str, RouteConfig], Field(min_length=1)]


def load_routes(path: Path) -> RoutesConfig:
    """The routes of a file. Raises Refused, with the file and the field, never with what stands there."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read the routes of {path}: {type(error).__name__}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise Refused(f"{path}{where} is neither YAML nor JSON") from None
    try:
        return RoutesConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        # The form by which an upstream was read, behind models.NAME.upstreams.PLACE, stands in no file.
        field = ".".join(str(part) for at, part in enumerate(first["loc"]) if at != 4 or part not in _SORTS)
        raise Refused(f"{path}: {field or 'the whole'}: {first['msg']}") from None


def key_of(upstream: UpstreamConfig) -> str:
    """The upstream's key, from where the configuration says; empty where it needs none. Raises Refused."""
    if upstream.key_env:
        key = os.environ.get(upstream.key_env, "").strip()
        if not key:
            raise Refused(
                f"the environment has no {upstream.key_env}, which the key of {upstream.base} is to come from"
            )
        return key
    if upstream.key_file:
        try:
            return Path(upstream.key_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"cannot read {upstream.key_file}, the key of {upstream.base}") from error
    return ""
