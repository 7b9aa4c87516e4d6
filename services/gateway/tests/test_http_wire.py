"""Bodies over HTTP: every tensor survives both forms, and no bytes whatever do more than be refused."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_gateway.domain.batching import parted
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.tensors import BF16, Tensor, datatype_of, float32_of, from_raw, to_raw
from ergonaut_gateway.protocol import http_wire, json_tensors
from ergonaut_gateway.protocol.bounds import JSON_FREE_BYTES
from ergonaut_gateway.protocol.http_wire import Terms, decode_request, encode_answer
from ergonaut_gateway.protocol.json_tensors import from_json

from .drawn_tensors import same, tensors

X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2.5]}


def body_of(document: Any, *binary: bytes) -> tuple[bytes, str]:
    head = json.dumps(document).encode()
    return head + b"".join(binary), str(len(head))


@given(st.lists(tensors(), max_size=3), st.text(max_size=5))
def test_binary_inputs_arrive_as_they_were(sent: list[Tensor], request_id: str) -> None:
    inputs = [
        {
            "name": f"t{at}",
            "shape": tensor.shape,
            "datatype": datatype_of(tensor),
            "parameters": {"binary_data_size": len(to_raw(tensor))},
        }
        for at, tensor in enumerate(sent)
    ]
    body, length = body_of({"id": request_id, "inputs": inputs}, *map(to_raw, sent))
    request, _ = decode_request(body, length)
    assert request.id == request_id
    assert list(request.inputs) == [f"t{at}" for at in range(len(sent))]
    assert all(same(got, tensor) for got, tensor in zip(request.inputs.values(), sent, strict=True))


@given(tensors(finite=True, text=True), st.booleans())
def test_json_data_arrives_as_it_was_flat_or_nested(tensor: Tensor, nested: bool) -> None:
    if tensor.dtype == object:
        texts = np.array([element.decode() for element in tensor.ravel()] or [], dtype=object).reshape(tensor.shape)
        elements = texts.tolist() if nested and tensor.ndim else list(texts.ravel())
    else:
        numbers = float32_of(tensor) if datatype_of(tensor) == BF16 else tensor
        elements = numbers.tolist() if nested and tensor.ndim else numbers.ravel().tolist()
    if tensor.size == 0:
        elements = []
    given_tensor = {"name": "x", "shape": tensor.shape, "datatype": datatype_of(tensor), "data": elements}
    request, _ = decode_request(json.dumps({"inputs": [given_tensor]}).encode())
    assert same(request.inputs["x"], tensor)


@given(st.lists(st.tuples(tensors(finite=True, text=True), st.booleans()), min_size=1, max_size=3), st.booleans())
def test_answers_can_be_read_back_whatever_is_wanted_as_binary(
    given_outputs: list[tuple[Tensor, bool]], by_default: bool
) -> None:
    outputs = {f"t{at}": tensor for at, (tensor, _) in enumerate(given_outputs)}
    terms = Terms(by_default, {f"t{at}": binary for at, (_, binary) in enumerate(given_outputs) if at})
    body, length = encode_answer(InferenceAnswer("7", "m", 3, outputs), terms)
    head = orjson.loads(body[:length])
    rest = body[length:] if length is not None else b""
    assert (head["id"], head["model_name"], head["model_version"]) == ("7", "m", "3")
    for told in head["outputs"]:
        size_bytes = told.get("parameters", {}).get("binary_data_size")
        assert (size_bytes is not None) == terms.includes(told["name"])
        if size_bytes is None:
            got = from_json(orjson.dumps(told["data"]), told["datatype"], told["shape"], field="y")
        else:
            got = from_raw(rest[:size_bytes], told["datatype"], told["shape"], field="y")
            rest = rest[size_bytes:]
        assert same(got, outputs[told["name"]])
    assert rest == b""


@given(st.binary(max_size=200), st.none() | st.text(max_size=6) | st.integers(0, 250).map(str))
def test_no_bytes_and_no_header_do_more_than_be_refused(body: bytes, header: str | None) -> None:
    with pytest.raises(Refused):
        decode_request(body, header)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | _VALUES,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | _VALUES,
        "datatype": st.sampled_from(["FP32", "INT8", "BOOL", "BYTES"]) | _VALUES,
        "data": _VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 9) | _VALUES}) | _VALUES,
    },
)
_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": _VALUES,
        "inputs": st.lists(_INPUTS, max_size=2) | _VALUES,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.text(max_size=3), "parameters": _VALUES})) | _VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_output": _VALUES}) | _VALUES,
    },
)


@given(_DOCUMENTS, st.binary(max_size=12))
def test_no_document_does_more_than_be_refused(document: dict[str, Any], binary: bytes) -> None:
    body, length = body_of(document, binary)
    try:
        request, _ = decode_request(body, length)
    except Refused:
        return
    assert all(isinstance(tensor, np.ndarray) for tensor in request.inputs.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [1]}, "inputs.x.data: 1 elements were given, the shape [2] has 2"),
        ({"data": [1, "2"]}, "inputs.x.data: is not FP32: Expected `float`, got `str` - at `$[1]`"),
        ({"data": [1, None]}, "inputs.x.data: is not FP32: Expected `float`, got `null` - at `$[1]`"),
        ({"data": [1, True]}, "inputs.x.data: is not FP32: Expected `float`, got `bool` - at `$[1]`"),
        ({"data": [1, 1e39]}, "inputs.x.data: holds a number too large for FP32"),
        ({"data": [[1, 2]]}, "inputs.x.data: is nested as [1, 2], the shape is [2]"),
        ({"data": [[1], [2, 3]]}, "inputs.x.data: is not FP32: the nested lists differ in length"),
        ({"data": [["a"], ["b", "c"]], "datatype": "BYTES"}, "inputs.x.data: is not BYTES: the nested lists differ"),
        ({"data": [1, 3.4e38], "datatype": "BF16"}, "inputs.x.data: holds a number too large for BF16"),
        ({"data": [1.5, 2], "datatype": "INT8"}, "inputs.x.data: is not INT8: Expected `int`, got `float` - at `$[0]`"),
        ({"data": [300, 2], "datatype": "UINT8"}, "inputs.x.data: is not UINT8: Python integer 300 out of bounds"),
        ({"data": [1, 0], "datatype": "BOOL"}, "inputs.x.data: is not BOOL: Expected `bool`, got `int` - at `$[0]`"),
        ({"data": [1, 2], "datatype": "BYTES"}, "inputs.x.data: is not BYTES: Expected `str`, got `int` - at `$[0]`"),
        ({"datatype": "FLOAT"}, "inputs.x.datatype: 'FLOAT' is not one of BOOL,"),
        ({"shape": [1, -2]}, "inputs.x.shape: [1, -2] has an axis outside 0 to"),
        ({"shape": "2"}, "inputs[0].shape: Expected `array`, got `str`"),
        ({"name": 7}, "inputs[0].name: Expected `str`, got `int`"),
        ({"parameters": {"binary_data_size": 8}}, "inputs.x: has both data and binary_data_size; give one"),
        ({"parameters": {"shared_memory_region": "r"}}, "inputs.x.parameters.shared_memory_region: is not supported"),
    ],
)
def test_a_wrong_input_is_named_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        decode_request(json.dumps({"inputs": [X | change]}).encode())
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "body: Object missing required field `inputs`"),
        ([], "body: Expected `object`, got `array`"),
        ({"inputs": [{"name": "x"}]}, "inputs[0]: Object missing required field `datatype`"),
        ({"inputs": [X, X]}, "inputs.x: is given twice"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}, "inputs.x.data: is missing; give data or"),
        ({"inputs": [X], "outputs": [{"name": "y"}, {"name": "y"}]}, "outputs: an output is named twice"),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "outputs.y.parameters.binary_data: must be true or false",
        ),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "outputs.y.parameters.classification: is not supported",
        ),
        (
            {"inputs": [X], "parameters": {"binary_data_output": "yes"}},
            "parameters.binary_data_output: must be true or false",
        ),
        (
            {"inputs": [X], "parameters": {"sequence_id": 7}},
            "parameters.sequence_id: is not supported; each request stands for itself here",
        ),
        ({"inputs": [X], "parameters": {"priority": -1}}, "parameters.priority: must be a whole number from 0 to"),
        ({"inputs": [X], "parameters": {"timeout": 1.5}}, "parameters.timeout: must be a whole number from 0 to"),
    ],
)
def test_a_wrong_document_is_refused_with_the_field(document: Any, message: str) -> None:
    with pytest.raises(Refused) as refused:
        decode_request(json.dumps(document).encode())
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("header", ["-1", "+4", " 4", "4_0", "٤", "", "0x4", "9" * 30, "4.0"])
def test_a_header_length_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(Refused, match=r"^Inference-Header-Content-Length: must be a whole number$"):
        decode_request(b"{}", header)


def test_lengths_that_do_not_add_up_are_refused() -> None:
    binary = {"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    body, length = body_of({"inputs": [binary]}, b"\0" * 3)
    with pytest.raises(Refused, match=r"^inputs\.x\.parameters\.binary_data_size: is 4, only 3 bytes are left$"):
        decode_request(body, length)
    with pytest.raises(Refused, match=r"^body: 2 bytes follow that belong to no input$"):
        decode_request(body + b"\0" * 3, length)
    with pytest.raises(Refused, match=r"^Inference-Header-Content-Length: is 9999, the body has"):
        decode_request(body, "9999")


@pytest.mark.parametrize("depth", [17, 300, 100_000])
@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":', b"}]}"),
        (b'{"inputs":[{"name":"x","shape":', b',"datatype":"FP32","data":[1]}]}'),
    ],
)
def test_lists_nested_without_end_are_refused(depth: int, head: bytes, tail: bytes) -> None:
    with pytest.raises(Refused):
        decode_request(head + b"[" * depth + b"]" * depth + tail)


@pytest.mark.parametrize("word", [b"parameters", b"unknown"])
def test_what_is_passed_over_may_be_nested_only_so_far(word: bytes) -> None:
    head, tail = b'{"%s":{"a":' % word, b'},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    decode_request(head + b"[" * 100 + b"]" * 100 + tail)
    with pytest.raises(Refused):
        decode_request(head + b"[" * 100_000 + b"]" * 100_000 + tail)


def test_parameters_that_change_nothing_are_passed_over() -> None:
    document = {"inputs": [X | {"parameters": {"colour": "red"}}], "parameters": {"sequence_id": 0}, "more": 1}
    request, terms = decode_request(json.dumps(document).encode())
    assert (list(request.inputs), terms) == (["x"], Terms(by_default=False, by_output={}))


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "FP16", "INT32"])
@pytest.mark.parametrize("shape", [[6], [2, 3], [1, 6, 1], [], [0, 6], [-1, 6], [-2, -3], [1] * 17, [7]])
@pytest.mark.parametrize("data", ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", "[1]", "[]", "[1,2,3,4,5,6.5]"])
def test_the_short_way_of_ordinary_numbers_leads_where_the_long_one_does(
    datatype: str, shape: list[int], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> Tensor | str:
        try:
            return from_json(data.encode(), datatype, shape, field="x")
        except Refused as error:
            return str(error)

    short = read()
    monkeypatch.setattr(json_tensors, "_ORDINARY", {})
    long = read()
    assert short == long if isinstance(long, str) or isinstance(short, str) else same(short, long)


@pytest.mark.parametrize("data", ["[1,2.5]", "[1e39,2]", "[[1,2]]", "[]", "[1]", '["1",2]', "[null,1]", "[1,2"])
@pytest.mark.parametrize("rest", ['"shape":[2]', '"shape":[-1,-2]', '"shape":[2],"parameters":{"binary_data_size":8}'])
@pytest.mark.parametrize("after", ["", ',{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}', ',{"name":"y"}'])
@pytest.mark.parametrize("more", ["", ',"outputs":[{"name":"z"}],"parameters":{"priority":1}'])
@pytest.mark.parametrize("datatype", ["FP32", "INT32"])
def test_a_document_read_in_one_pass_means_what_it_means_read_with_care(
    datatype: str, data: str, rest: str, after: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f'{{"id":"r","inputs":[{{"name":"x","datatype":"{datatype}","data":{data},{rest}}}{after}]{more}}}'.encode()

    def read() -> tuple[object, ...]:
        try:
            request, terms = decode_request(body)
        except Refused as error:
            return (str(error),)
        inputs = {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in request.inputs.items()}
        return request.id, inputs, request.outputs, terms

    once = read()
    monkeypatch.setattr(http_wire, "_flat", lambda _: None)
    assert once == read()


def _has_rows(tensor: Tensor) -> bool:
    return tensor.ndim > 0 and (tensor.size > 0 or tensor.dtype != object)


@given(
    st.lists(tensors(finite=True, text=True).filter(_has_rows), min_size=1, max_size=2),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.sampled_from(["", 'r"', "\u2028"]),
)
@settings(deadline=None)
def test_answers_of_a_batch_are_written_like_answers_of_their_own(
    drawn: list[Tensor], rows: list[int], request_id: str
) -> None:
    whole = {f"t{at}": np.resize(tensor, (sum(rows), *tensor.shape[1:])) for at, tensor in enumerate(drawn)}
    parts = parted(whole, rows)
    assert parts is not None
    usual = Terms(by_default=False, by_output={})
    for part in parts:
        told = [InferenceAnswer(request_id, "m", 3, outputs) for outputs in (part, dict(part))]
        together, alone = (orjson.loads(encode_answer(answer, usual)[0]) for answer in told)
        assert together == alone


def test_how_soon_an_answer_is_wanted_is_read_in_tritons_units() -> None:
    document = {"inputs": [X], "parameters": {"priority": 3, "timeout": 2_500}}
    _, terms = decode_request(json.dumps(document).encode())
    assert (terms.priority, terms.timeout_seconds) == (3, 0.0025)


def test_a_number_that_json_cannot_write_is_null_and_bytes_that_are_no_text_are_refused() -> None:
    nan = {"y": np.array([np.nan, 1.5, np.inf], dtype="<f4")}
    body, _ = encode_answer(InferenceAnswer("", "m", 1, nan), Terms(by_default=False, by_output={}))
    assert orjson.loads(body)["outputs"][0]["data"] == [None, 1.5, None]
    assert "id" not in orjson.loads(body)
    raw = {"y": from_raw(b"\1\0\0\0\xff", "BYTES", [1], field="y")}
    with pytest.raises(Refused, match=r"^outputs\.y: is not text; ask for it with binary_data$"):
        encode_answer(InferenceAnswer("", "m", 1, raw), Terms(by_default=False, by_output={}))


MANY_SMALL = {
    "inputs": (b'{"inputs":[%s]}', b'{"name":"x"}', "inputs: has "),
    "outputs": (b'{"inputs":[],"outputs":[%s]}', b'{"name":"y"}', "outputs: has "),
    "parameters": (b'{"inputs":[],"parameters":{%s}}', b'"a":"b"', "parameters: have "),
    "parameters of an input": (b'{"inputs":[{"parameters":{%s}}]}', b'"a":"b"', "parameters: have "),
    "lists": (b'{"inputs":[{"name":"x","shape":[9,1],"datatype":"FP32","data":[%s]}]}', b"[1]", "body: has about "),
}


@pytest.mark.parametrize(("whole", "part", "message"), MANY_SMALL.values(), ids=MANY_SMALL)
def test_very_many_small_things_are_refused_before_one_of_them_is_made(
    whole: bytes, part: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_wire, "_document", lambda _: pytest.fail("it was read"))
    with pytest.raises(Refused) as refused:
        decode_request(whole % b",".join([part] * 1_200_000))
    assert str(refused.value).startswith(message)


def test_a_large_document_of_few_things_is_read_as_a_small_one() -> None:
    numbers = [[number] * 100 for number in range(4_000)]
    document = {"inputs": [X | {"shape": [4_000, 100], "data": numbers}], "parameters": {"colour": "red"}}
    body = json.dumps(document).encode()
    assert len(body) > JSON_FREE_BYTES
    request, _ = decode_request(body)
    assert request.inputs["x"].tolist() == numbers
