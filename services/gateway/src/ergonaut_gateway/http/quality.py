"""What was true, told afterwards, and how good each version of a model still is; answered only where something is watched."""

from typing import Annotated, Any

import msgspec

from ergonaut.errors import NotFound, Refused
from ergonaut.keys import Scope
from ergonaut_gateway.domain.quality import Labelled
from ergonaut_gateway.http.answers import answer_json
from ergonaut_gateway.http.asking import decoded
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.http.exchange import Exchange
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.protocol.openapi_extras import LABELS_MAX
from ergonaut_gateway.service.quality import Quality

_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""JSON's numbers have no end; a class has none beyond this, and a float cannot be as large as all of them."""


BODY_BYTES_MAX = 4 * 1024 * 1024
"""Of one call: 10,000 labels of 400 bytes. They are counted only once they are read."""


class _Labels(msgspec.Struct, forbid_unknown_fields=True):
    """By the request's id, of several rows `<id>.<row>`: a class, by number or text, or a number."""

    labels: Annotated[dict[str, bool | _Whole | float | str], msgspec.Meta(max_length=LABELS_MAX)]


_decoder = msgspec.json.Decoder(_Labels)


class QualityDoor:
    """Answers for the paths of quality."""

    def __init__(self, quality: Quality, callers: Callers) -> None:
        self._quality = quality
        self._callers = callers

    def add_to(self, router: Router) -> None:
        """Have a router send these paths here."""
        router.add("POST", "/v2/models/{model}/labels", self.label, admit=self._admit)
        router.add("GET", "/v2/models/{model}/quality", self.quality)

    async def label(self, exchange: Exchange) -> None:
        """Join labels with predictions; the answer counts what became of them."""
        tenant = self._callers.of(exchange.request.headers, Scope.WRITE).tenant
        if len(exchange.request.body) > BODY_BYTES_MAX:
            raise Refused(f"is larger than {BODY_BYTES_MAX} bytes; send labels in several calls", field="body")
        labels = decoded(_decoder, exchange.request.body).labels
        counts = await self._quality.label(tenant, exchange.path_values["model"], labels)
        answer_json(exchange, {str(outcome): counts.get(outcome, 0) for outcome in Labelled})

    def quality(self, exchange: Exchange) -> None:
        """Drift and scores of each version of a model that is watched."""
        tenant, model = self._callers.of(exchange.request.headers).tenant, exchange.path_values["model"]
        versions: dict[int, dict[str, Any]] = {}
        for (owner, name, version), state in self._quality.drifts.states():
            if (owner, name) == (tenant, model):
                versions.setdefault(version, {}).setdefault("drift", []).append(state)
        for (owner, name, version), figure, interval in self._quality.labels.figures():
            if (owner, name) == (tenant, model):
                versions.setdefault(version, {}).setdefault("scores", {})[figure] = interval
        if not versions:
            raise NotFound(f"nothing of model {model} was watched yet")
        answer_json(exchange, {"name": model, "versions": {str(version): told for version, told in versions.items()}})

    def _admit(self, exchange: Exchange) -> None:
        self._callers.of(exchange.request.headers, Scope.WRITE)
