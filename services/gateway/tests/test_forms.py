"""Forms of JSON requests: what is cut by one and read in one go is to the bit what each request says by itself."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.tensors import Tensor, datatype_of, to_raw
from ergonaut_gateway.protocol.forms import BODY_BYTES_MAX, FORM_BYTES_MAX, NUMBERS_MAX, RAW_BYTES_MAX, form_of, rows_of
from ergonaut_gateway.protocol.http_wire import (
    BINARY,
    USUAL,
    decode_request,
    encode_answer,
    encode_raw_rows,
    encode_rows,
)

from .drawn_tensors import NUMERIC, same, tensors

BODY = b'{"id":"r","inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1.0,2.0,3.0]}]}'
NUMBERS = b"1.0,2.0,3.0"


def body_with(data: object, **other: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": data} | other]}).encode()


_NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "3.4028235677973366e38", "3.4028234663852886e38", "1e39", "1e400", "5e-46"]),
)
_TEXT = st.lists(_NUMBER, min_size=1, max_size=4).map(",".join).map(str.encode)
_ODD = st.one_of(
    _TEXT,
    st.binary(max_size=8),
    st.text(alphabet='0123456789.,-+eE[]{}": \t\r\ntruefalsn', max_size=12).map(str.encode),
    st.sampled_from(
        [
            b"1,2],[3,4",
            b"1,2,3],[4,5,6",
            b"",
            b",",
            b"1,,2",
            b" 1 , 2 ,\n3",
            b"true,1,2",
            b"null,1,2",
            b'"1",2,3',
            b"1,2,",
        ]
    ),
)


def alone(body: bytes) -> tuple[str, Tensor] | None:
    """What a request says that is read by itself; None where that is refused."""
    try:
        request, terms = decode_request(body)
    except Refused:
        return None
    assert terms is USUAL
    return request.id, request.inputs["x"]


@given(st.lists(_ODD, min_size=1, max_size=5))
@example([b"1,2,3],[4", b"5,6"])
@example([b"1,2", b"3,4,5,6"])
@settings(max_examples=600, deadline=None)
def test_rows_that_are_read_in_one_go_are_as_if_each_was_read_by_itself(numbers: list[bytes]) -> None:
    rows = rows_of(numbers, 3)
    each = [alone(BODY.replace(NUMBERS, piece)) for piece in numbers]
    if rows is None:
        # What is right is only left to be read with care where a neighbour is not, or it is beyond what is usual.
        assert None in each or any(not -3.4e38 < number < 3.4e38 for said in each if said for number in said[1].flat)
        return
    for said, row in zip(each, rows, strict=True):
        assert said is not None
        assert same(said[1], row.reshape(1, 3))


@given(
    _ODD, st.one_of(st.text(max_size=6), st.sampled_from(['"', "\\", "é", "a" * 1_025, "\x7f", "\n"])), st.booleans()
)
@settings(max_examples=600, deadline=None)
def test_a_request_that_a_form_takes_says_what_it_says_alone(numbers: bytes, request_id: str, raw_id: bool) -> None:
    form = form_of(BODY, None, USUAL)
    assert form is not None
    written = request_id.encode("utf-8", "surrogatepass") if raw_id else json.dumps(request_id)[1:-1].encode()
    body = BODY.replace(b'"r"', b'"%b"' % written).replace(NUMBERS, numbers)
    cut = form.cut(body)
    rows = form.rows([cut[1]]) if cut is not None else None
    if cut is not None and rows is not None:
        said = alone(body)
        assert said is not None
        assert said[0] == cut[0].decode()
        assert same(said[1], rows.reshape(1, *form.shape))


def test_ids_and_numbers_may_be_others_and_nothing_else() -> None:
    form = form_of(BODY, None, USUAL)
    assert form is not None
    assert (form.name, form.shape) == ("x", (3,))
    assert form.cut(BODY) == (b"r", NUMBERS)
    assert form.cut(BODY.replace(b'"r"', b'"7f-22"').replace(NUMBERS, b"4, 5,6")) == (b"7f-22", b"4, 5,6")
    assert form.cut(BODY.replace(b'"r"', b'""')) == (b"", NUMBERS)
    for other in (
        BODY.replace(b"[1,3]", b"[3,1]"),
        BODY.replace(b'"x"', b'"y"'),
        BODY.replace(b'"r"', b"7"),
        BODY.replace(b'"r"', b'"\\n"'),
        BODY + b" ",
        BODY[:-1],
        BODY[:20],
        BODY.replace(NUMBERS, b""),
        BODY.replace(NUMBERS, b"1" * BODY_BYTES_MAX),
        b"",
    ):
        assert form.cut(other) is None


@pytest.mark.parametrize(
    ("body", "id_of_its_own"),
    [
        (BODY.replace(b'"r"', b'"x"'), False),
        (BODY.replace(b'"id":"r",', b""), False),
        (BODY.replace(b'"id":"r",', b"").replace(b"}]}", b'}],"id":"r"}'), False),
        (BODY.replace(b'"id":"r",', b'"more":"",'), False),
        (BODY.replace(b'"id":"r",', b'"more":"r",').replace(b"}]}", b'}],"id":"r"}'), False),
        (BODY.replace(b'"r"', b'"s","id":"r"'), True),
        (BODY.replace(b'"data":[', b'"data":[9],"data":['), True),
        (BODY.replace(b'"name"', b'"more":{"id":[[1]],"data":"]"},"name"'), True),
    ],
)
def test_where_an_id_cannot_be_told_from_the_rest_another_one_is_of_another_form(
    body: bytes, id_of_its_own: bool
) -> None:
    form = form_of(body, None, USUAL)
    assert form is not None
    assert form.cut(body) == (alone(body)[0].encode(), NUMBERS)
    for text in (b'"r"', b'""'):
        if text in body:
            assert (form.cut(body.replace(text, b'"q"')) is not None) == id_of_its_own


@pytest.mark.parametrize(
    "body",
    [
        body_with([1, 2, 3], shape=[3]),
        body_with([1, 2, 3, 4, 5, 6], shape=[2, 3]),
        body_with([[1, 2, 3]]),
        body_with([1, 2, 3], datatype="FP64"),
        body_with([1, 2, 3], parameters={"a": 1}),
        body_with([1] * (NUMBERS_MAX + 1), shape=[1, NUMBERS_MAX + 1]),
        body_with([1, 2, 3], more="m" * FORM_BYTES_MAX),
        body_with([1, 2, 3], more=[1, 2, 3]),
        body_with([1, 2, 1e39]),
        BODY.replace(b'"r"', b'"\\u0041"'),
        b'{"inputs":[]}',
        b"{",
        b"",
    ],
)
def test_of_what_is_no_row_of_numbers_no_form_is_learned(body: bytes) -> None:
    assert form_of(body, None, USUAL) is None


@given(tensors(finite=True), st.lists(st.from_regex(r"[ !#-\[\]-~]{0,9}", fullmatch=True), min_size=1, max_size=4))
@settings(deadline=None)
def test_answers_that_are_written_together_are_as_if_each_was_written_by_itself(row: Tensor, ids: list[str]) -> None:
    outputs = {"y": np.stack([row] * len(ids)), "größe": np.arange(len(ids))}
    written = encode_rows("m", 3, outputs, [request_id.encode() for request_id in ids])
    if written is None:
        assert row.dtype.kind not in "biuf" or not row.size
        return
    for at, request_id in enumerate(ids):
        apart = {name: tensor[at : at + 1] for name, tensor in outputs.items()}
        assert written[at] == encode_answer(InferenceAnswer(request_id, "m", 3, apart), USUAL)[0]


def raw_of(row: Tensor, request_id: str, **other: Any) -> tuple[bytes, int]:
    """A request for one row as a binary tensor, which wants all as such, and the length of its JSON."""
    raw = to_raw(row)
    parameters = {"binary_data_size": len(raw)} | other
    given_input = {"name": "x", "datatype": datatype_of(row), "shape": [1, *row.shape], "parameters": parameters}
    document = {"id": request_id, "inputs": [given_input], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    return head + raw, len(head)


@given(
    tensors(NUMERIC),
    st.lists(
        st.tuples(st.from_regex(r"[!#-\[\]-~]{4}", fullmatch=True), st.binary(max_size=3)), min_size=1, max_size=4
    ),
    st.integers(0, 3),
)
@settings(max_examples=300, deadline=None)
def test_binary_rows_that_are_read_in_one_go_are_as_if_each_was_read_by_itself(
    row: Tensor, others: list[tuple[str, bytes]], shorter: int
) -> None:
    body, json_bytes = raw_of(row, "ID-1")
    form = form_of(body, json_bytes, BINARY)
    if form is None:
        assert row.dtype.kind not in "iuf" or not row.size or row.nbytes > RAW_BYTES_MAX
        return
    bodies = [body.replace(b"ID-1", name.encode())[: len(body) - shorter] + more for name, more in others]
    cuts = [form.cut(each) for each in bodies]
    if None in cuts:
        return
    rows = form.rows([cut[1] for cut in cuts if cut])
    for at, (each, cut) in enumerate(zip(bodies, cuts, strict=True)):
        try:
            request, terms = decode_request(each, str(json_bytes))
        except Refused:
            assert rows is None
            return
        if rows is not None:
            assert terms is BINARY
            assert cut is not None
            assert request.id == cut[0].decode()
            assert same(request.inputs["x"], rows[at : at + 1])


def test_a_binary_request_whose_id_is_longer_is_of_another_form() -> None:
    row = np.ones(3, "<f4")
    body, json_bytes = raw_of(row, "ab")
    form = form_of(body, json_bytes, BINARY)
    assert form is not None
    assert form.cut(raw_of(row, "cd")[0]) == (b"cd", row.tobytes())
    assert form.cut(raw_of(row, "abc")[0]) is None
    assert form.rows([row.tobytes(), row.tobytes() + b"1"]) is None
    for odd in (
        raw_of(row, "ab", more=1),
        raw_of(np.ones(RAW_BYTES_MAX, "<f4"), "ab"),
        raw_of(np.ones(3, bool), "ab"),
        (raw_of(row, "ab")[0] + b"1", json_bytes),
    ):
        assert form_of(*odd, BINARY) is None


@given(tensors(NUMERIC), st.lists(st.from_regex(r"[ !#-\[\]-~]{0,9}", fullmatch=True), min_size=1, max_size=4))
@settings(deadline=None)
def test_binary_answers_that_are_written_together_are_as_if_each_was_written_by_itself(
    row: Tensor, ids: list[str]
) -> None:
    outputs = {"y": np.stack([row] * len(ids)), "größe": np.arange(len(ids))}
    written = encode_raw_rows("m", 3, outputs, [request_id.encode() for request_id in ids])
    if written is None:
        assert row.dtype.kind not in "biuf" or not row.size
        return
    for at, request_id in enumerate(ids):
        apart = {name: tensor[at : at + 1] for name, tensor in outputs.items()}
        assert written[at] == encode_answer(InferenceAnswer(request_id, "m", 3, apart), BINARY)
