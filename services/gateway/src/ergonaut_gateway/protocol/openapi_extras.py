"""What the OpenAPI document tells of doors that are answered only where a setting asks for them: labels and quality, and texts by
OpenAI's protocol."""

from typing import Any

from ergonaut.ids import NAME_PATTERN
from ergonaut.openapi.documents import content, described, refusals

TEXT_PREFIXES = {"/v1": "", "/openai/v1": "BesideOthers"}
"""Where texts are asked for, and what the names of operations end in there."""

LABELS_MAX = 10_000
"""Labels of one call: some tens of milliseconds of the event loop. More come in several calls."""

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def quality_paths() -> dict[str, Any]:
    """Labels that come later, and how good models still are."""
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME_PATTERN}}
    label = {
        "operationId": "label",
        "summary": "Tell what was true, by the ids of requests",
        "requestBody": {"required": True, "content": content("Labels")},
        "responses": {
            "200": described("What became of the labels.", "Labelled"),
            **refusals("400", "401", "403", "404", "503"),
        },
    }
    told = {
        "operationId": "quality",
        "summary": "Drift and scores of each version that is watched",
        "responses": {"200": described("It is told.", "Quality"), **refusals("401", "403", "404")},
    }
    return {
        "/v2/models/{model}/labels": {"post": label, "parameters": [model]},
        "/v2/models/{model}/quality": {"get": told, "parameters": [model]},
    }


def quality_schemas() -> dict[str, Any]:
    """What those take and give."""
    truth = {"type": ["boolean", "integer", "number", "string"]}
    labels = {
        "type": "object",
        "additionalProperties": truth,
        "maxProperties": LABELS_MAX,
        "description": "By a request's id, of several rows `ID.0`, `ID.1` and so on: a class by number or text, or a number.",
    }
    outcomes = ("scored", "repeated", "unknown", "unfit")
    return {
        "Labels": {
            "type": "object",
            "required": ["labels"],
            "properties": {"labels": labels},
            "additionalProperties": False,
        },
        "Labelled": {"type": "object", "required": list(outcomes), "properties": dict.fromkeys(outcomes, _COUNT)},
        "Quality": {
            "type": "object",
            "required": ["name", "versions"],
            "properties": {"name": _TEXT, "versions": {"type": "object", "additionalProperties": {"type": "object"}}},
        },
    }


def text_paths() -> dict[str, Any]:
    """Texts by OpenAI's protocol, whose own document tells all that may be asked."""
    paths: dict[str, Any] = {}
    for prefix, suffix in TEXT_PREFIXES.items():
        paths |= {
            f"{prefix}/chat/completions": {"post": _asked("chat", "Go on with a conversation", "ChatRequest", suffix)},
            f"{prefix}/completions": {"post": _asked("complete", "Go on with a text", "CompletionRequest", suffix)},
            f"{prefix}/embeddings": {"post": _asked("embed", "Make vectors of texts", "EmbeddingRequest", suffix)},
            f"{prefix}/models": {"get": _listed("texts", "The models that you may use", "TextModels", suffix)},
            f"{prefix}/models/{{model}}": {
                "get": _listed("text", "One of them", "TextModel", suffix, "404"),
                "parameters": [{"name": "model", "in": "path", "required": True, "schema": _TEXT | {"minLength": 1}}],
            },
        }
    return paths


def text_schemas() -> dict[str, Any]:
    """What those take and give, as far as it is looked at here."""
    model = {**_TEXT, "minLength": 1, "description": "One of those that `models` lists."}
    card = {"type": "object", "required": ["id", "object"], "properties": {"id": _TEXT, "object": {"const": "model"}}}
    error = {
        "type": "object",
        "required": ["message", "type"],
        "properties": {"message": _TEXT, "type": _TEXT, "code": {}, "param": {}},
    }
    given = {"ChatRequest": "messages", "CompletionRequest": "prompt", "EmbeddingRequest": "input"}
    return {
        **{name: _request(model, field) for name, field in given.items()},
        "TextAnswer": {"type": "object", "properties": {"usage": {"type": "object"}}},
        "TextModel": card,
        "TextModels": {
            "type": "object",
            "required": ["object", "data"],
            "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": card}},
        },
        "TextError": {"type": "object", "required": ["error"], "properties": {"error": error}},
    }


def _request(model: dict[str, Any], field: str) -> dict[str, Any]:
    passed = {
        "description": "Passes as it is written, as all other fields do; OpenAI's own document says what they are."
    }
    return {"type": "object", "required": ["model"], "properties": {"model": model, field: passed}}


def _asked(identity: str, summary: str, taken: str, suffix: str) -> dict[str, Any]:
    whole = described("The answer, with what it used in `usage.ergonaut`; events where `stream` is true.", "TextAnswer")
    whole["content"]["text/event-stream"] = {"schema": _TEXT}
    # Other statuses come from the server that was asked, as do their bodies.
    passed = {"description": "The server behind refuses it, in its own words.", "content": {"*/*": {}}}
    return {
        "operationId": f"{identity}{suffix}",
        "summary": summary,
        "requestBody": {"required": True, "content": content(taken)},
        "responses": {"200": whole, "4XX": passed}
        | _refused("400", "401", "403", "404", "429", "500", "502", "503", "504"),
    }


def _listed(identity: str, summary: str, given: str, suffix: str, *more: str) -> dict[str, Any]:
    responses = {"200": described("It is told.", given)} | _refused("401", "403", *more)
    return {"operationId": f"{identity}{suffix}", "summary": summary, "responses": responses}


def _refused(*codes: str) -> dict[str, Any]:
    """Refusals in OpenAI's form."""
    words = refusals(*codes) | {"502": {"description": "No server behind it gave a whole answer; ask again."}}
    return {code: {**words[code], "content": content("TextError")} for code in codes}
