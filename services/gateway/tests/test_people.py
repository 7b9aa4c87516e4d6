"""The door for people: named fields in, predictions by name out, one sentence for whatever is wrong, documents that hold."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper
from openapi_spec_validator import validate

from ergonaut.errors import Refused
from ergonaut.openapi import CLASSES, FEATURES
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord, Signature, TensorSpec
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, PagesDoor, PeopleDoor, Router, serving_http
from ergonaut_gateway.http.forms import PlainForm, plain_form
from ergonaut_gateway.protocol.openapi import door_document
from ergonaut_gateway.service import EngineLimits, Wish
from ergonaut_gateway.service.lanes import Done, Ticket

from .conftest import Gateway, Gateways
from .onnx_models import NUMPY_TO_ONNX, adding, doubling, identity, of_fixed_rows

LIMITS = HttpLimits(body_bytes=100_000, all_bodies_bytes=250_000, connections=50, body_seconds=0.5)
HOSTILE = '</script><img src=x onerror="alert(1)">\u202e$`{{7*7}}\n'


def classifying(features: list[str], classes: list[str], *, label: bool = False) -> bytes:
    """Probabilities of classes by a softmax over three columns, and where asked for, the number of the likeliest."""
    nodes = [helper.make_node("Softmax", ["x"], ["probabilities"], axis=1)]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])]
    if label:
        nodes.append(helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    made = helper.make_model(
        helper.make_graph(nodes, "classes", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    helper.set_model_props(made, {FEATURES: json.dumps(features), CLASSES: json.dumps(classes)})
    return made.SerializeToString()


def of_columns() -> bytes:
    """y = a + b of two columns, as converters make of a table's."""
    column = (TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "columns",
        [helper.make_tensor_value_info(name, *column) for name in "ab"],
        [helper.make_tensor_value_info("y", *column)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture
async def gateway(gateways: Gateways) -> AsyncIterator[Gateway]:
    gateways.clock = SystemClock()
    made = gateways.another(OnnxLoader(), limits=EngineLimits(threads=1), models_max=20)
    await made.deploy(doubling())
    yield made
    made.predictions.close()


@pytest.fixture
def ring(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    return key_ring_file(tmp_path, ("default", "other"))


@pytest.fixture
def keys(ring: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return ring[1]


@pytest.fixture
async def http(gateway: Gateway, ring: tuple[Path, dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    router = Router()
    callers = Callers(KeyRing.load(ring[0]))
    served = (gateway.models, gateway.catalogue, gateway.predictions, callers)
    for door in (InferenceDoor(*served), PeopleDoor(*served), PagesDoor()):
        door.add_to(router)
    headers = {"authorization": f"Bearer {ring[1]['default']}"}
    async with (
        serving_http("127.0.0.1:0", router, LIMITS) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        yield client


async def predicted(http: httpx.AsyncClient, body: Any, model: str = "digits") -> Any:
    answer = await http.post(f"/v2/models/{model}/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_row_rows_and_columns_are_the_same_to_a_model(http: httpx.AsyncClient) -> None:
    one, two = {"y": [2, 4, 6], "z": [-1, -2, -3]}, {"y": [0, 0, 2], "z": [0, 0, -1]}
    told = await predicted(http, {"x": [1, 2, 3]})
    assert told == {"model": "digits", "version": "1", "predictions": [one]}
    rows = [{"x": [1, 2, 3]}, {"x": [0, 0, 1]}]
    for body in (rows, {"rows": rows}, {"x": [[1, 2, 3], [0, 0, 1]]}):
        assert (await predicted(http, body))["predictions"] == [one, two]
    assert (await predicted(http, {"x": [1, 2, 3], "id": "a"}))["id"] == "a"
    assert (await predicted(http, {"rows": rows, "id": "b"}))["id"] == "b"
    by_version = await http.post("/v2/models/digits/versions/1/predict", json=rows)
    assert by_version.json()["predictions"] == [one, two]


async def test_columns_of_a_table_are_single_values(gateway: Gateway, http: httpx.AsyncClient) -> None:
    await gateway.deploy(of_columns(), "table")
    assert (await predicted(http, {"a": 1, "b": 2.5}, "table"))["predictions"] == [{"y": 3.5}]
    assert (await predicted(http, {"a": [1, 2], "b": [2.5, 0]}, "table"))["predictions"] == [{"y": 3.5}, {"y": 2}]
    ragged = await http.post("/v2/models/table/predict", json={"a": [1, 2], "b": [2.5]})
    assert (ragged.status_code, ragged.json()["error"]) == (400, "b: has 1 rows, a has 2")


async def test_names_that_a_file_tells_are_those_of_fields_and_classes(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    await gateway.deploy(classifying(["length", "width", "height"], ["cat", "dog", "emu"]), "named")
    [told] = (await predicted(http, {"length": 0, "width": 9, "height": 0}, "named"))["predictions"]
    assert list(told["probabilities"]) == ["cat", "dog", "emu"]
    assert (told["label"], told["probability"]) == ("dog", told["probabilities"]["dog"])
    # What a model tells itself stands as it does.
    await gateway.deploy(classifying(["l", "w", "h"], ["cat", "dog", "emu"], label=True), "labelled")
    [told] = (await predicted(http, {"l": 0, "w": 9, "h": 0}, "labelled"))["predictions"]
    assert (told["label"], "probability" in told) == (1, False)


async def test_what_is_no_number_is_null_both_ways(gateway: Gateway, http: httpx.AsyncClient) -> None:
    assert (await predicted(http, {"x": [None, 1, 2]}))["predictions"] == [{"y": [None, 2, 4], "z": [None, -1, -2]}]
    await gateway.deploy(classifying(["l", "w", "h"], ["cat", "dog", "emu"]), "named")
    [told] = (await predicted(http, {"l": None, "w": 9, "h": 0}, "named"))["predictions"]
    assert (told["label"], told["probability"]) == (None, None)


@pytest.mark.parametrize("datatype", NUMPY_TO_ONNX)
async def test_each_datatype_goes_and_comes(gateway: Gateway, http: httpx.AsyncClient, datatype: str) -> None:
    await gateway.deploy(identity(datatype), "same")
    given = {"BOOL": [True, False], "BYTES": ["a", "ü"]}.get(datatype, [1, 0])
    assert (await predicted(http, {"x": given}, "same"))["predictions"] == [{"y": given}]
    assert (await predicted(http, [{"x": given}] * 3, "same"))["predictions"] == [{"y": given}] * 3
    if datatype == "UINT64":
        assert (await predicted(http, {"x": [2**64 - 1, 0]}, "same"))["predictions"] == [{"y": [2**64 - 1, 0]}]


async def test_a_model_of_fixed_rows_takes_its_tensors_whole(gateway: Gateway, http: httpx.AsyncClient) -> None:
    await gateway.deploy(of_fixed_rows(), "fixed")
    whole = {"x": [[1, 2, 3], [4, 5, 6]]}
    for body in (whole, [whole], {"rows": [whole]}):
        assert (await predicted(http, body, "fixed"))["predictions"] == [{"y": [[2, 4, 6], [8, 10, 12]]}]
    assert (await http.post("/v2/models/fixed/predict", json=[whole, whole])).status_code == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"7", "object"),
        (b"[]", "length >= 1"),
        (b"{}", "`x`"),
        (b'{"x": [1, 2]}', "x"),
        (b'{"x": [1, 2, "3"]}', "x[2]"),
        (b'{"x": [1, 2, 1e39]}', "x[2]"),
        (b'{"x": [1, 2, 3], "w": 1}', "`w`"),
        (b'{"rows": [{"x": [1, 2, 3]}, {"x": [1, 2, true]}]}', "rows[1].x[2]"),
        (b'{"rows": 1}', "rows"),
        (b'{"x": [[1, 2, 3], [1, 2]]}', "x[1]"),
        (b'{"x": [1, 2, 3], "id": 1}', "id"),
        (b'{"x": [1, 2, 3], "parameters": {"priority": -1}}', "parameters.priority"),
        (b'{"x": ' + b"[" * 5_000, "x"),
        (b'{"x": [1, 2, 3]}\xff', "body"),
        (b"[" + b"{}," * 20_000 + b"{}]", "[0]"),
    ],
)
async def test_what_is_wrong_is_told_in_one_sentence_with_its_place(
    http: httpx.AsyncClient, body: bytes, words: str
) -> None:
    answer = await http.post("/v2/models/digits/predict", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


async def test_only_the_graph_knows_and_it_is_told_as_well(gateway: Gateway, http: httpx.AsyncClient) -> None:
    await gateway.deploy(adding(), "adding")
    assert (await predicted(http, {"a": [1, 2], "b": [1, 2]}, "adding"))["predictions"] == [{"y": 2}, {"y": 4}]


async def test_strangers_and_other_tenants_see_nothing(http: httpx.AsyncClient, keys: dict[str, str]) -> None:
    for path, body in (("predict", {"x": [1, 2, 3]}), ("openapi.json", None)):
        method = "POST" if body else "GET"
        url = f"/v2/models/digits/{path}"
        stranger = await http.request(method, url, json=body, headers={"authorization": "Bearer no"})
        assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, "Bearer")
        other = await http.request(method, url, json=body, headers={"authorization": f"Bearer {keys['other']}"})
        assert other.status_code == 404


async def test_time_and_energy_are_asked_for_as_at_the_other_doors(http: httpx.AsyncClient) -> None:
    told = await predicted(http, {"x": [1, 2, 3], "parameters": {"energy": True}})
    assert "energy_method" in told["parameters"]
    headers = {"x-ergonaut-energy": "1"}
    answer = await http.post("/v2/models/digits/predict", json={"x": [1, 2, 3]}, headers=headers)
    assert "x-ergonaut-energy-method" in answer.headers


async def test_a_models_document_is_valid_and_its_examples_are_answered_as_it_says(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    await gateway.deploy(of_columns(), "table")
    await gateway.deploy(of_fixed_rows(), "fixed")
    await gateway.deploy(classifying(["length", HOSTILE, "rows"], ["cat", HOSTILE, "emu"]), "named")
    await gateway.deploy(identity("BYTES"), "texts")
    for model in ("digits", "table", "fixed", "named", "texts"):
        document = (await http.get(f"/v2/models/{model}/openapi.json")).json()
        validate(document)
        assert document["info"]["x-ergonaut-card"]["name"] == model
        for path in (f"/v2/models/{model}/predict", f"/v2/models/{model}/infer"):
            operation = document["paths"][path]["post"]
            asked = operation["requestBody"]["content"]["application/json"]
            Draft202012Validator({**asked["schema"], "components": document["components"]}).validate(asked["example"])
            answer = await http.post(path, json=asked["example"])
            assert answer.status_code == 200, answer.text
            given = operation["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator({**given, "components": document["components"]}).validate(answer.json())


async def test_a_versions_document_has_that_versions_paths(http: httpx.AsyncClient) -> None:
    document = (await http.get("/v2/models/digits/versions/1/openapi.json")).json()
    assert "/v2/models/digits/versions/1/predict" in document["paths"]
    assert (await http.get("/v2/models/digits/versions/7/openapi.json")).status_code == 404


async def test_the_doors_document_is_valid_needs_no_key_and_names_no_model(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.json", headers={"authorization": ""})
    assert answer.status_code == 200
    validate(answer.json())
    assert answer.json() == json.loads(json.dumps(door_document()))
    assert "digits" not in answer.text


class Front:
    """A plan with a name of its own that hands all to a model, as an endpoint of one route does."""

    version = ""

    def __init__(self, gateway: Gateway, name: str, model: str) -> None:
        self._gateway, self._name, self._model = gateway, name, model

    @property
    def record(self) -> ModelRecord:
        return replace(self._gateway.catalogue.find("default", self._model, "").record, name=self._name)

    def statistics(self) -> None:
        return None

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Ticket:
        return self._gateway.predictions.submit_model(Wish(wish.tenant, self._model), request, done)


@pytest.mark.parametrize("name", ["front", "digits"])
async def test_an_endpoint_has_the_names_of_what_it_asks_and_no_other_models_card(
    gateway: Gateway, http: httpx.AsyncClient, name: str
) -> None:
    await gateway.deploy(classifying(["l", "w", "h"], ["cat", "dog", "emu"]), "named")
    gateway.predictions.plans["default", name] = Front(gateway, name, "named")
    [told] = (await predicted(http, {"l": 0, "w": 9, "h": 0}, name))["predictions"]
    assert told["label"] == "dog"
    document = (await http.get(f"/v2/models/{name}/openapi.json")).json()
    assert list(document["components"]["schemas"]["Row"]["properties"]) == ["l", "w", "h"]
    assert "x-ergonaut-card" not in document["info"]


FORMS = [
    plain_form(Signature(tuple(inputs), ()), ())
    for inputs in (
        [TensorSpec("x", "FP32", (-1, 3))],
        [TensorSpec("a", "INT8", (-1, 1)), TensorSpec("b", "BYTES", (-1,)), TensorSpec("c", "BF16", (-1, -1, 2))],
        [TensorSpec("x", "UINT64", ()), TensorSpec("rows", "FP16", (1, 2))],
        [],
        [TensorSpec("e", "FP64", (-1, 0))],
    )
]
words = st.sampled_from(["x", "a", "b", "c", "e", "rows", "id", "parameters"])
odd = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
anything = st.recursive(odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4))


@settings(deadline=None)
@given(st.sampled_from(FORMS), anything.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40))
def test_whatever_is_sent_is_read_or_refused(form: PlainForm, body: bytes) -> None:
    try:
        read = form.read(body)
    except Refused:
        return
    told = form.write(InferenceAnswer(read.id, "m", 1, read.inputs), read.rows)
    assert len(orjson.loads(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))["predictions"]) == read.rows
