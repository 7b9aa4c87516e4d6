"""How one row is asked over each wire and how the answer is read: `json` and `binary` of the Open Inference Protocol over HTTP,
`grpc` likewise with raw contents, and `plain`, the JSON of the peers that do not speak it.

Requests are whole and ready to be sent, so that no client's time goes into writing them.
"""

import http.client
import json
import struct
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from subjects import Model

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip

HEADER_LENGTH = "Inference-Header-Content-Length"
INFER_PATH = "/v2/models/m/infer"
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
ASK_SECONDS_MAX = 10.0
# Engines may add up in another order for another batch; what a caller sees of that is in the seventh digit.
CLOSE_ENOUGH = 1e-5

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers by lower-case names, body."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where and how a server is asked for one model. `headers` are those that this server wants of every caller."""

    model: Model
    wire: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_grpc(self) -> bool:
        """Whether HTTP/2 is spoken here."""
        return self.wire == "grpc"


def messages(door: Door) -> list[bytes]:
    """A request for each row: whole HTTP/1.1 requests, or gRPC's messages with their five bytes in front."""
    if door.is_grpc:
        texts = [_message(row) for row in door.model.rows]
        return [b"\0" + struct.pack(">I", len(text)) + text for text in texts]
    return [_whole(door, *_body(door.wire, row)) for row in door.model.rows]


def _whole(door: Door, headers: dict[str, str], body: bytes) -> bytes:
    lines = {"Host": f"127.0.0.1:{door.port}", "Content-Length": str(len(body)), **headers, **dict(door.headers)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {door.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _body(wire: str, row: Any) -> tuple[dict[str, str], bytes]:
    numbers = [round(float(number), 4) for number in row.ravel()]
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, *row.shape]}
    if wire == "plain":
        return {"Content-Type": "application/json"}, _json({"X": [numbers]})
    if wire == "json":
        return {"Content-Type": "application/json"}, _json({"id": "r", "inputs": [{**tensor, "data": numbers}]})
    raw = row.tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = _json({"id": "r", "inputs": [tensor], "parameters": {"binary_data_output": True}})
    return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}, head + raw


def _message(row: Any) -> bytes:
    request = oip.ModelInferRequest(model_name="m", id="r")
    request.inputs.add(name="X", datatype="FP32", shape=[1, *row.shape])
    request.raw_input_contents.append(row.tobytes())
    return bytes(request.SerializeToString())


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def first_answer(door: Door) -> str:
    """Why the server does not give a right answer to the first row just now, or nothing where it does."""
    return _wrong(door, range(1))


def checked(door: Door) -> str:
    """What is wrong with the answers to all rows, or nothing where each label is that of onnxruntime by itself."""
    return _wrong(door, range(len(door.model.rows)))


def _wrong(door: Door, rows: range) -> str:
    try:
        answers = _grpc_answers(door, rows) if door.is_grpc else _http_answers(door, rows)
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    for row, answer in zip(rows, answers, strict=True):
        expected = door.model.answers[row]
        if answer.shape != expected.shape or answer.argmax() != expected.argmax():
            return f"row {row} is answered {answer.argmax() if answer.size else 'nothing'}, not {expected.argmax()}"
    return ""


def _http_answers(door: Door, rows: range) -> list[Any]:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=ASK_SECONDS_MAX)
    answers = []
    try:
        for row in rows:
            headers, body = _body(door.wire, door.model.rows[row])
            connection.request("POST", door.path, body, {**headers, **dict(door.headers)})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            answers.append(read(door.wire, (answer.status, told, answer.read())))
    finally:
        connection.close()
    return answers


def _grpc_answers(door: Door, rows: range) -> list[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{door.port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        ask = channel.unary_unary(GRPC_PATH, response_deserializer=oip.ModelInferResponse.FromString)
        metadata = [(name.lower(), value) for name, value in door.headers]
        asked = [_message(door.model.rows[row]) for row in rows]
        return [_grpc_read(ask(message, metadata=metadata, timeout=ASK_SECONDS_MAX)) for message in asked]


def _grpc_read(answer: Any) -> Any:
    names = [output.name for output in answer.outputs]
    at = names.index("probabilities")
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[at], np.float32)
    return np.array(answer.outputs[at].contents.fp32_contents, np.float32)


def read(wire: str, answer: Answer) -> Any:
    """The probabilities of an answer over HTTP. Raises ValueError or LookupError where it is none."""
    status, headers, body = answer
    if status != http.HTTPStatus.OK:
        raise ValueError(f"HTTP {status}: {body[:200].decode(errors='replace')}")
    if wire == "plain":
        document = json.loads(body)
        return np.array(document["probabilities"] if isinstance(document, dict) else document, np.float32).ravel()
    head_bytes = int(headers.get(HEADER_LENGTH.lower(), len(body)))
    start = head_bytes
    for output in json.loads(body[:head_bytes])["outputs"]:
        size_bytes = (output.get("parameters") or {}).get("binary_data_size", 0)
        if output["name"] == "probabilities":
            if size_bytes:
                return np.frombuffer(body[start : start + size_bytes], np.float32)
            return np.array(output["data"], np.float32).ravel()
        start += size_bytes
    raise LookupError(f"there are no probabilities in {body[:200].decode(errors='replace')}")


def unlike(door: Door, row: int, answer: Answer) -> str:
    """What is wrong with an answer under load, to the sixth digit; nothing where it is the row's own."""
    try:
        probabilities = read(door.wire, answer)
    except (ValueError, LookupError) as error:
        return str(error)
    expected = door.model.answers[row]
    if probabilities.shape != expected.shape or abs(probabilities - expected).max() > CLOSE_ENOUGH:
        return f"row {row} is answered {probabilities.tolist()}, not {expected.tolist()}"
    return ""
