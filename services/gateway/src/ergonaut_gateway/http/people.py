"""The door for people: predictions by plain JSON with named fields, and the OpenAPI documents that describe this and the rest."""

import asyncio
import json
import time
from collections.abc import Iterable, Set
from typing import Any

from ergonaut.errors import ErgonautError, NotFound, Unavailable
from ergonaut.openapi import Described, model_document
from ergonaut_common.observe import SpanEnd, opened_span
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.http.answers import answer_error, answer_json
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.exchange import Exchange, Headers
from ergonaut_gateway.http.forms import PlainForm, plain_form
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.protocol.openapi import door_document
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.catalogue import ReadyModel
from ergonaut_gateway.service.footprint import ASKING, YES, Footprint, headers_of, metered, traced
from ergonaut_gateway.service.predictions import Wish

PREFIXES = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


class PeopleDoor:
    """Answers `predict` and `openapi.json`."""

    def __init__(self, models: Models, catalogue: Catalogue, predictions: Predictions, callers: Callers) -> None:
        self._models = models
        self._catalogue = catalogue
        self._predictions = predictions
        self._callers = callers
        self._answered: Set[tuple[str, str]] = frozenset()

    def add_to(self, router: Router) -> None:
        """Have a router send these paths here."""
        for prefix in PREFIXES:
            router.add("POST", f"{prefix}/predict", self.predict, admit=self._admit)
            router.add("GET", f"{prefix}/openapi.json", self.describe)
        self._answered = router.patterns
        router.add("GET", "/openapi.json", self.describe_door)

    def predict(self, exchange: Exchange) -> None:
        """Predict; as with `infer` the answer comes by callback."""
        request, values = exchange.request, exchange.path_values
        tenant = self._callers.of(request.headers).tenant
        name, version = values["model"], values.get("version", "")
        form = self._form(self._predictions.record_of(tenant, name, version))
        plain = form.read(request.body)
        asked, wanted = plain.asked, plain.wanted()
        deadline_seconds = None
        if asked.timeout_seconds is not None:
            deadline_seconds = time.monotonic() + asked.timeout_seconds
        wish = Wish(tenant, name, version, deadline_seconds, asked.priority, plain.parameters or None)
        footprint = None
        if asked.energy or request.headers.get(ASKING) in YES:
            wanted, footprint = metered(wanted, self._predictions.energy)
        span = opened_span("predict", request.headers, model=name)
        if span is not None and span.context is not None:
            wanted = traced(wanted, span.context)
        answer = _Answer(exchange, form, plain.rows, span, footprint)
        ticket = self._predictions.submit(wish, wanted, answer.give)
        if not exchange.over:
            exchange.on_gone(ticket.cancel)

    async def describe(self, exchange: Exchange) -> None:
        """The OpenAPI document of a model, with its card beside."""
        tenant = self._callers.of(exchange.request.headers).tenant
        values = exchange.path_values
        version = values.get("version", "")
        record = self._predictions.record_of(tenant, values["model"], version)
        described = Described(
            record.name,
            record.signature.inputs,
            record.signature.outputs,
            dict(self._notes(record)),
            version,
            await self._card(record),
        )
        answer_json(exchange, model_document(described))

    def describe_door(self, exchange: Exchange) -> None:
        """The OpenAPI document of all that this port answers; it tells of no model, and needs no key."""
        # Doors may be added after this one.
        quality = ("GET", "/v2/models/{model}/quality") in self._answered
        texts = ("GET", "/v1/models") in self._answered
        answer_json(exchange, door_document(quality=quality, texts=texts))

    def _form(self, record: ModelRecord) -> PlainForm:
        return plain_form(record.signature, self._notes(record))

    def _notes(self, record: ModelRecord) -> tuple[tuple[str, str], ...]:
        """What the file of a model says of itself; what is no model, or is not here any more, says nothing."""
        if not record.file:
            return ()
        found = self._by_file(record, [record])
        if found is None:
            # An endpoint has a name of its own; what it tells is its heaviest route's.
            kept = [each for model in self._catalogue.models(record.tenant) for each in model.kept]
            found = self._by_file(record, [each for each in kept if each.file == record.file])
        return found.runner.traits.notes if found is not None else ()

    def _by_file(self, record: ModelRecord, places: Iterable[ModelRecord]) -> ReadyModel | None:
        """The model of a record's file, where it is ready at one of these places."""
        for place in places:
            try:
                found = self._catalogue.find(record.tenant, place.name, str(place.version))
            except ErgonautError:
                continue
            if found.record.file == record.file:
                return found
        return None

    async def _card(self, record: ModelRecord) -> dict[str, Any] | None:
        """The card of a version; pipelines have none."""
        if not record.file:
            return None
        try:
            told, _ = await self._models.card(record.tenant, record.name, str(record.version))
        except (NotFound, Unavailable):
            # The document is of use without it.
            return None
        card: dict[str, Any] = json.loads(told)
        # An endpoint may have a model's name and send requests elsewhere; that model's card would tell of another file.
        return card if card["digest"] == record.digest else None

    def _admit(self, exchange: Exchange) -> None:
        self._callers.of(exchange.request.headers)


class _Answer:
    """Writes what came of one request."""

    __slots__ = ("_exchange", "_footprint", "_form", "_rows", "_span")

    def __init__(
        self, exchange: Exchange, form: PlainForm, rows: int, span: SpanEnd | None, footprint: Footprint | None
    ) -> None:
        self._exchange = exchange
        self._form = form
        self._rows = rows
        self._span = span
        self._footprint = footprint

    def give(self, outcome: InferenceAnswer | BaseException) -> None:
        """Answer, once."""
        failure: BaseException | None = None
        if isinstance(outcome, asyncio.CancelledError):
            failure = Unavailable("the request was dropped; ask again")
        elif isinstance(outcome, BaseException):
            failure = outcome
        else:
            try:
                self._write(outcome)
            except Exception as error:
                failure = error
        if failure is not None:
            answer_error(self._exchange, failure)
        if self._span is not None:
            self._span(failure)

    def _write(self, answer: InferenceAnswer) -> None:
        headers: Headers = ()
        document = self._form.write(answer, self._rows)
        if self._footprint is not None:
            told = self._footprint()
            document["parameters"] = told
            headers = headers_of(told)
        answer_json(self._exchange, document, headers=headers)
