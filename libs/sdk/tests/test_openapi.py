"""Forms for people and the documents of them, whatever signatures and metadata a model's file has."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from ergonaut.openapi import CLASSES, FEATURES, Described, form_of, model_document
from ergonaut.openapi.forms import names_in
from ergonaut.openapi.schemas import EXAMPLE_VALUES_MAX

DATATYPES = ["BOOL", "INT8", "INT64", "UINT8", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES"]


@dataclass(frozen=True)
class Tensor:
    """What a document needs to know of one."""

    name: str
    datatype: str
    shape: tuple[int, ...]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tensors = st.builds(
    Tensor, texts, st.sampled_from(DATATYPES), st.lists(st.sampled_from([-1, 0, 1, 2, 3]), max_size=4).map(tuple)
)
lists = st.lists(tensors, max_size=3, unique_by=lambda tensor: tensor.name)
notes = st.one_of(texts, st.lists(texts, max_size=4).map(json.dumps))


def parts(document: dict[str, Any], path: str) -> tuple[dict[str, Any], Any]:
    asked = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return {**asked["schema"], "components": document["components"]}, asked.get("example")


@settings(deadline=None, max_examples=60)
@given(lists, lists, notes, notes)
def test_a_document_is_valid_and_takes_its_own_examples_whatever_the_model_says(
    inputs: list[Tensor], outputs: list[Tensor], features: str, classes: str
) -> None:
    document = model_document(Described("m", inputs, outputs, {FEATURES: features, CLASSES: classes}))
    validate(json.loads(json.dumps(document)))
    for path in ("/v2/models/m/predict", "/v2/models/m/infer"):
        schema, example = parts(document, path)
        if all(length != 0 for tensor in inputs for length in tensor.shape):
            Draft202012Validator(schema).validate(example)


def test_a_shape_without_end_makes_no_example_and_no_long_document() -> None:
    endless = [Tensor("x", "FP32", (-1, 2**31 - 1, 2**31 - 1))]
    document = model_document(Described("m", endless, endless))
    assert len(json.dumps(document)) < 2 * EXAMPLE_VALUES_MAX
    assert [parts(document, f"/v2/models/m/{word}")[1] for word in ("predict", "infer")] == [None, None]


def test_columns_have_the_names_that_the_file_tells_unless_they_do_not_fit() -> None:
    x, y = [Tensor("x", "FP32", (-1, 2))], [Tensor("y", "FP32", (-1, 2))]
    assert [field.name for field in form_of(x, y, {FEATURES: '["a", "b"]'}).fields] == ["a", "b"]
    for told in ('["a"]', '["a", "a"]', '{"a": 1}', "[1.5, null]", '["a", "\\ud800"]', "[" * 10_000):
        assert [field.name for field in form_of(x, y, {FEATURES: told}).fields] == ["x"]


def test_names_that_json_would_have_to_mark_are_made_plain_and_stay_apart() -> None:
    inputs = [Tensor(name, "FP32", (-1, 1)) for name in ('a"', "a\\", "a_", "b")]
    assert [field.name for field in form_of(inputs, []).fields] == ["a_", "a__2", "a__3", "b"]
    assert names_in("[1, 2]") == ("1", "2")
