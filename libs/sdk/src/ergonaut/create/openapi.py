"""The OpenAPI document of one model, typed by its inputs and outputs. Pure."""

from collections.abc import Sequence
from typing import Any

from ergonaut.create.calling import request_json
from ergonaut.create.tensors import DRAWS, Spec, drawn

JSON_TYPES = {"BOOL": "boolean", "BYTES": "string", "FP16": "number", "FP32": "number", "FP64": "number"}
"""What stands in JSON for a value; all other types are integers."""


def document(name: str, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> dict[str, Any]:
    """The document, OpenAPI 3.1, without a server's address, which every deployment has of its own."""
    infer = _operation("infer", "Predict by the Open Inference Protocol", "InferRequest", "InferResponse")
    infer["requestBody"]["content"]["application/json"]["example"] = request_json(inputs, drawn(inputs, DRAWS[2]))
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1", "description": f"The model {name}, served by Ergonaut."},
        "security": [{"key": []}],
        "paths": {
            f"/v2/models/{name}/infer": {"post": infer},
            f"/v2/models/{name}/ready": {
                "get": {
                    "operationId": "ready",
                    "summary": "Whether the model takes requests",
                    "responses": {"200": {"description": "It does."}, **_refusals()},
                }
            },
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "InferRequest": _message("inputs", inputs),
                "InferResponse": _message("outputs", outputs),
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string", "description": "What was wrong, and where."}},
                },
            },
        },
    }


def _operation(identity: str, summary: str, taken: str, given: str) -> dict[str, Any]:
    return {
        "operationId": identity,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(taken)},
        "responses": {"200": {"description": "The prediction.", "content": _json(given)}, **_refusals()},
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _refusals() -> dict[str, Any]:
    told = {
        "400": "The request does not fit the model.",
        "401": "The key is not known.",
        "404": "There is no such model.",
        "429": "Too much waits; ask again later.",
        "503": "It cannot answer now; ask again later.",
    }
    return {code: {"description": words, "content": _json("Error")} for code, words in told.items()}


def _message(field: str, specs: Sequence[Spec]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [field],
        "properties": {
            "id": {"type": "string", "description": "Comes back as it was sent."},
            field: {
                "type": "array",
                "minItems": len(specs) if field == "inputs" else 1,
                "maxItems": len(specs),
                "items": {"anyOf": [_tensor(spec) for spec in specs]},
            },
        },
    }


def _tensor(spec: Spec) -> dict[str, Any]:
    axes = [{"type": "integer", **({"const": axis} if isinstance(axis, int) else {"minimum": 0})} for axis in spec.axes]
    shape: dict[str, Any] = {"type": "array", "minItems": len(axes), "maxItems": len(axes)}
    if axes:
        shape["prefixItems"] = axes
    return {
        "title": spec.in_words(),
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": shape,
            "datatype": {"const": spec.datatype},
            "data": {
                "type": "array",
                "description": "All values in row-major order, flat or nested as the shape is.",
                "items": {"type": [JSON_TYPES.get(spec.datatype, "integer"), "array"]},
            },
        },
    }
