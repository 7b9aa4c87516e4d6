"""The OpenAPI document of one model. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ergonaut.openapi import schemas
from ergonaut.openapi.forms import Tensor, form_of
from ergonaut.openapi.schemas import Schema

OPENAPI = "3.1.0"

ALL = ("400", "401", "403", "404", "429", "500", "503", "504")
"""What may be answered in place of a prediction."""


@dataclass(frozen=True, slots=True)
class Described:
    """A model that is described: by which version, and what its file and its deployer told of it."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    notes: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    """In the paths; empty where they shall mean whichever serves."""
    card: Mapping[str, Any] | None = None
    """Told beside, under `x-ergonaut-card`."""


def model_document(model: Described) -> dict[str, Any]:
    """The document, without a server's address, which every deployment has of its own."""
    form = form_of(model.inputs, model.outputs, model.notes)
    base = f"/v2/models/{model.name}" + (f"/versions/{model.version}" if model.version else "")
    info: Schema = {
        "title": model.name,
        "version": model.version or "1",
        "description": f"The model {model.name}, served by Ergonaut.",
    }
    if model.card is not None:
        info["x-ergonaut-card"] = model.card
    predict = operation("predict", "Predict, with named fields", "PredictRequest", "PredictResponse")
    _exemplify(predict, schemas.example_row(form))
    infer = operation("infer", "Predict by the Open Inference Protocol", "InferRequest", "InferResponse")
    tensors = schemas.example_tensors(model.inputs)
    _exemplify(infer, None if tensors is None else {"inputs": tensors})
    ready: Schema = {"operationId": "ready", "summary": "Whether the model takes requests"}
    ready["responses"] = {"200": described("It does.", "Ready"), **refusals("401", "403", "404", "503")}
    return {
        "openapi": OPENAPI,
        "info": info,
        "security": [{"key": []}],
        "paths": {
            f"{base}/predict": {"post": predict},
            f"{base}/infer": {"post": infer},
            f"{base}/ready": {"get": ready},
        },
        "components": {
            "securitySchemes": bearer(),
            "schemas": {
                "Row": schemas.row(form),
                "PredictRequest": schemas.request(form, "#/components/schemas/Row"),
                "PredictResponse": schemas.answer(form),
                "InferRequest": schemas.tensors("inputs", model.inputs),
                "InferResponse": schemas.tensors("outputs", model.outputs),
                "Ready": {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}},
                "Error": error_schema(),
            },
        },
    }


def operation(identity: str, summary: str, taken: str, given: str) -> dict[str, Any]:
    """An operation that takes one schema and gives another, with all that may be answered in its place."""
    return {
        "operationId": identity,
        "summary": summary,
        "requestBody": {"required": True, "content": content(taken)},
        "responses": {"200": described("The prediction.", given), **refusals()},
    }


def content(schema: str) -> dict[str, Any]:
    """JSON of one of the document's schemas."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def described(words: str, schema: str) -> dict[str, Any]:
    """An answer."""
    return {"description": words, "content": content(schema)}


def refusals(*only: str) -> dict[str, Any]:
    """The answers that say why there is none, by their codes; those of a prediction where none is named."""
    told = {
        "400": "The request does not fit the model, or is too large; the sentence names the field.",
        "401": "The key is missing or not known.",
        "403": "The key may not do this.",
        "404": "There is no such model or version.",
        "409": "Another change came first.",
        "429": "Too much waits; ask again after so many seconds as Retry-After says.",
        "500": "Something unforeseen; the gateway's log tells more.",
        "503": "It cannot answer now; ask again after so many seconds as Retry-After says.",
        "504": "The request's own time was over before its turn came.",
    }
    answers = {code: described(words, "Error") for code, words in told.items() if code in (only or ALL)}
    retry = {"retry-after": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    for code in ("429", "503"):
        if code in answers:
            answers[code]["headers"] = retry
    return answers


def bearer() -> dict[str, Any]:
    """How callers show their keys."""
    told = "A key of Ergonaut, as `Authorization: Bearer KEY`."
    return {"key": {"type": "http", "scheme": "bearer", "description": told}}


def error_schema() -> Schema:
    """What is told of what went wrong."""
    words = {"type": "string", "description": "What was wrong, and where."}
    return {"type": "object", "required": ["error"], "properties": {"error": words}}


def _exemplify(operation: dict[str, Any], example: Any) -> None:
    if example is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example
