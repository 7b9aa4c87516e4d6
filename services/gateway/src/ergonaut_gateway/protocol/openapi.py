"""The OpenAPI document of all that the HTTP port answers, whatever models there are. A model's own tells its fields too."""

from functools import cache
from importlib.metadata import version
from typing import Any

from ergonaut.ids import NAME_PATTERN
from ergonaut.openapi.documents import OPENAPI, bearer, described, error_schema, operation, refusals
from ergonaut.openapi.schemas import PARAMETERS_SCHEMA
from ergonaut_gateway.domain.tensors import AXIS_MAX, DTYPES, RANK_MAX
from ergonaut_gateway.protocol.openapi_extras import quality_paths, quality_schemas, text_paths, text_schemas

READING = ("401", "403", "404", "503")
CHANGING = ("400", "401", "403", "404", "409", "503")

_TEXT = {"type": "string"}
_NUMBERS = {"type": "array", "items": {"type": "integer"}}


@cache
def door_document(*, quality: bool = False, texts: bool = False) -> dict[str, Any]:
    """The document, without a server's address. `quality` and `texts` are whether those doors are open."""
    paths = _server() | _models("") | _models("/versions/{version}") | _repository()
    schemas = _schemas()
    if quality:
        paths, schemas = paths | quality_paths(), schemas | quality_schemas()
    if texts:
        paths, schemas = paths | text_paths(), schemas | text_schemas()
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Ergonaut gateway",
            "version": version("ergonaut-gateway"),
            "description": "Predictions by the Open Inference Protocol, and by plain JSON with named fields. Each model has "
            "a document of its own, typed by what it takes and gives: /v2/models/{model}/openapi.json.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": bearer(), "schemas": schemas},
    }


def _server() -> dict[str, Any]:
    open_to_all: dict[str, Any] = {"security": []}
    ready = _reading("serverReady", "Whether predictions are taken", "ServerReady", ()) | open_to_all
    ready["responses"]["503"] = described("They are not.", "ServerReady")
    return {
        "/v2": {"get": _reading("server", "What this server is", "Server", ("401", "403"))},
        "/v2/health/live": {"get": _reading("live", "Whether the process answers", "Live", ()) | open_to_all},
        "/v2/health/ready": {"get": ready},
        "/openapi.json": {"get": _reading("openapi", "This document", "Document", ()) | open_to_all},
    }


def _models(of_version: str) -> dict[str, Any]:
    base, suffix = f"/v2/models/{{model}}{of_version}", "OfVersion" if of_version else ""
    parameters = [_named("model"), *([_named("version")] if of_version else [])]
    paths: dict[str, Any] = {
        f"{base}/predict": {"post": operation("predict", "Predict, with named fields", "PlainRequest", "PlainAnswer")},
        f"{base}/infer": {"post": operation("infer", "Predict by tensors", "InferRequest", "InferAnswer")},
        base: {"get": _reading("model", "What a model takes and gives", "Model")},
        f"{base}/ready": {"get": _reading("modelReady", "Whether a model can be asked", "ModelReady")},
        f"{base}/config": {"get": _reading("config", "A model as Triton describes it", "Config")},
        f"{base}/stats": {"get": _reading("statistics", "What a model did since it was loaded", "Statistics")},
        f"{base}/openapi.json": {"get": _reading("modelOpenapi", "A model's own document", "Document")},
    }
    for path in paths.values():
        for each in path.values():
            each["operationId"] += suffix
        path["parameters"] = parameters
    return paths


def _repository() -> dict[str, Any]:
    index: dict[str, Any] = _changing("index", "The models, each with its versions", "IndexRequest", "Index")
    paths: dict[str, Any] = {
        "/v2/models/stats": {
            "get": _reading("allStatistics", "What all models did", "Statistics", ("401", "403", "503"))
        },
        "/v2/repository/index": {"post": index},
    }
    for word, words in (("load", "Hold a model ready"), ("unload", "Hold a model ready no longer; it is kept")):
        change = _changing(word, words, "Nothing", "Done")
        paths[f"/v2/repository/models/{{model}}/{word}"] = {"post": change, "parameters": [_named("model")]}
    return paths


def _named(what: str) -> dict[str, Any]:
    return {"name": what, "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME_PATTERN}}


def _reading(identity: str, summary: str, given: str, refused: tuple[str, ...] = READING) -> dict[str, Any]:
    refusing = refusals(*refused) if refused else {}
    return {
        "operationId": identity,
        "summary": summary,
        "responses": {"200": described("It is told.", given), **refusing},
    }


def _changing(identity: str, summary: str, taken: str, given: str) -> dict[str, Any]:
    told = operation(identity, summary, taken, given)
    told["requestBody"]["required"] = False
    told["responses"] = {"200": described("It is done.", given), **refusals(*CHANGING)}
    return told


def _schemas() -> dict[str, Any]:
    return {
        "Error": error_schema(),
        "Document": _object({"openapi": _TEXT}, "openapi"),
        "Live": _object({"live": {"type": "boolean"}}, "live"),
        "ServerReady": _object({"ready": {"type": "boolean"}}, "ready"),
        "Server": _object(
            {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}, "name", "version", "extensions"
        ),
        "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}, "name", "ready"),
        "Model": _object(
            {
                "name": _TEXT,
                "versions": _list(_TEXT),
                "platform": _TEXT,
                "inputs": _list(_spec("datatype", "shape")),
                "outputs": _list(_spec("datatype", "shape")),
            },
            *("name", "versions", "platform", "inputs", "outputs"),
        ),
        "Config": _object(
            {
                "name": _TEXT,
                "max_batch_size": {"type": "integer"},
                "input": _list(_spec("data_type", "dims")),
                "output": _list(_spec("data_type", "dims")),
            },
            *("name", "input", "output"),
        ),
        "Statistics": _object({"model_stats": _list(_object({"name": _TEXT, "version": _TEXT}))}, "model_stats"),
        "Index": _list(_object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT}, "name", "state")),
        "IndexRequest": _object({"ready": {"type": "boolean"}}),
        "Nothing": _object({}),
        "Done": _object({}),
        **_predicting(),
    }


def _predicting() -> dict[str, Any]:
    """What is asked and answered of a model that is not known here."""
    shape = {**_list({"type": "integer", "minimum": 0, "maximum": AXIS_MAX}), "maxItems": RANK_MAX}
    tensor = _object(
        {"name": _TEXT, "shape": shape, "datatype": {"enum": list(DTYPES)}, "data": {"type": "array"}},
        *("name", "shape", "datatype", "data"),
    )
    asked = {"id": _TEXT, "parameters": PARAMETERS_SCHEMA, "inputs": _list(tensor)}
    asked["outputs"] = _list(_object({"name": _TEXT}, "name"))
    told = "A row of named fields, a list of rows, rows beside an id and parameters, or columns; see the model's own document."
    return {
        "InferRequest": _object(asked, "inputs"),
        "InferAnswer": _object(
            {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": _list(tensor)},
            *("model_name", "outputs"),
        ),
        "PlainRequest": {"description": told, "anyOf": [_object({}), {**_list(_object({})), "minItems": 1}]},
        "PlainAnswer": _object(
            {"model": _TEXT, "version": _TEXT, "id": _TEXT, "predictions": _list(_object({}))},
            *("model", "version", "predictions"),
        ),
    }


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _spec(kind: str, shape: str) -> dict[str, Any]:
    return _object({"name": _TEXT, kind: _TEXT, shape: _NUMBERS}, "name", kind, shape)
