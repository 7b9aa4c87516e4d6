"""gRPC calls of every method made wrong: protobuf messages, their prefixes, the frames that carry them, and frames alone."""

import gzip
from collections.abc import Callable, Sequence
from struct import pack
from typing import Any

from ergonaut.api.inference.v1 import endpoints_pb2 as ends
from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1 import pipelines_pb2 as pipes
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut_common.h2 import frames
from ergonaut_common.h2.frames import END_HEADERS, END_STREAM, frame

from .drawing import TEXTS, Draw, changed

FRAME_BYTES = 16_000
"""As much as all frames may have."""

INFERENCE = "/inference.GRPCInferenceService/"
ENDPOINTS = "/ergonaut.api.inference.v1.EndpointService/"
PIPELINES = "/ergonaut.api.inference.v1.PipelineService/"
MODELS = "/ergonaut.api.inference.v1.ModelService/"
TYPED = {
    "digits": ("FP32", "fp32_contents", [1.0, 2.0, 3.0], [1, 3]),
    "id-bytes": ("BYTES", "bytes_contents", [b"a", b"\xff"], [1, 2]),
    "id-int64": ("INT64", "int64_contents", [1, -2], [1, 2]),
    "id-uint8": ("UINT8", "uint_contents", [1, 2], [1, 2]),
    "id-bool": ("BOOL", "bool_contents", [True, False], [1, 2]),
    "id-fp64": ("FP64", "fp64_contents", [1.0, 2e300], [1, 2]),
    "id-fp16": ("FP16", "fp32_contents", [1.0, 2.0], [1, 2]),
}
DATATYPES = ("FP32", "BYTES", "INT64", "UINT8", "BOOL", "FP64", "FP16", "BF16", "INT8", "", "FP8", "fp32", "\0")
AXES = (-1, 0, 1, 2, 3, 4, 1_000, 2**31 - 1, 2**31, 2**62, -(2**63))
PARAMETERS = ("priority", "timeout", "sequence_id", "sequence_start", "binary_data_output", "classification", "x", "")


def infer(draw: Draw, key: str) -> bytes:
    """A prediction."""
    message = _infer_message(draw)
    return begun(draw) + call(draw, 1, INFERENCE + "ModelInfer", key, [message])


def stream(draw: Draw, key: str) -> bytes:
    """Predictions on a stream, good and bad ones after each other."""
    messages = [_infer_message(draw) for _ in range(draw.randint(0, 4))]
    return begun(draw) + call(draw, 1, INFERENCE + "ModelStreamInfer", key, messages)


def models(draw: Draw, key: str) -> bytes:
    """Whatever else can be asked of models; what would take a served one away is not among it."""
    name, made = draw.choice(_ASKS)
    messages = [made(draw).SerializeToString()]
    if draw.randrange(2):
        messages = [changed(draw, each) for each in messages]
    return begun(draw) + call(draw, 1, name, key, messages)


def pipelines(draw: Draw, key: str) -> bytes:
    """Pipelines that are none, or go nowhere; a good one is served as `piped` all the while."""
    method = draw.choice(
        ("ApplyPipeline", "CheckPipeline", "CheckPipeline", "GetPipeline", "RemovePipeline", "ListPipelines")
    )
    if method in ("ApplyPipeline", "CheckPipeline"):
        pipeline = _pipeline(draw)
        asked: Any = (pipes.ApplyPipelineRequest if method == "ApplyPipeline" else pipes.CheckPipelineRequest)(
            pipeline=pipeline
        )
    elif method == "ListPipelines":
        asked = pipes.ListPipelinesRequest()
    else:
        kind = pipes.GetPipelineRequest if method == "GetPipeline" else pipes.RemovePipelineRequest
        asked = kind(name=draw.choice(("p-1", *TEXTS)))
    message = bytes(asked.SerializeToString())
    if draw.randrange(2):
        message = changed(draw, message)
    return begun(draw) + call(draw, 1, PIPELINES + method, key, [message])


def endpoints(draw: Draw, key: str) -> bytes:
    """Endpoints with routes that lead nowhere, weights that are none, and revisions that never were."""
    name = draw.choice(("e-1", "e-1", "e-2", *TEXTS))
    number = draw.choice((0, 1, 2, 2**31, 2**63))
    method, asked = draw.choice(
        (
            ("ApplyEndpoint", ends.ApplyEndpointRequest(endpoint=_endpoint(draw, name))),
            ("ApplyEndpoint", ends.ApplyEndpointRequest(endpoint=_endpoint(draw, name), expected_revision=number)),
            ("GetEndpoint", ends.GetEndpointRequest(name=name)),
            ("RemoveEndpoint", ends.RemoveEndpointRequest(name=name)),
            ("RollBackEndpoint", ends.RollBackEndpointRequest(name=name, to_revision=number)),
            ("GetEndpointFigures", ends.GetEndpointFiguresRequest(name=name)),
        )
    )
    message = bytes(asked.SerializeToString())
    if draw.randrange(2):
        message = changed(draw, message)
    return begun(draw) + call(draw, 1, ENDPOINTS + method, key, [message])


def frames_alone(draw: Draw, key: str) -> bytes:
    """Frames of any kind in any order, a good call among them."""
    pieces = [_any_frame(draw, key) for _ in range(draw.randint(1, 12))]
    pieces.insert(draw.randint(0, len(pieces)), call(draw, 9, INFERENCE + "ServerLive", key, [b""]))
    whole = begun(draw) + b"".join(pieces)
    return changed(draw, whole) if not draw.randrange(4) else whole


def begun(draw: Draw) -> bytes:
    """How a connection begins, mostly."""
    settings = b""
    if not draw.randrange(6):
        settings = b"".join(
            pack(">HI", draw.randrange(8), draw.choice((0, 1, 100, 65_535, 2**31 - 1, 2**32 - 1))) for _ in range(2)
        )
    return frames.PREFACE + frame(frames.SETTINGS, 0, 0, settings)


def call(draw: Draw, stream_id: int, path: str, key: str, messages: Sequence[bytes]) -> bytes:
    """A call, whose messages may have prefixes and packing that lie, cut into frames anyhow."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    fields.append(("authorization", f"Bearer {key}"))
    if not draw.randrange(5):
        fields.append(draw.choice(_FIELDS))
    block = headers(fields)
    if not draw.randrange(12):
        block = changed(draw, block)
    data = b"".join(_framed(draw, each) for each in messages)
    if not draw.randrange(10):
        data = changed(draw, data)
    pieces = [frame(frames.HEADERS, END_HEADERS, stream_id, block)]
    cuts = draw.choice((0, 0, 0, 1, 3, 20))
    while len(data) > FRAME_BYTES or (data and cuts > 0):
        size = min(draw.randint(1, len(data)) if cuts > 0 else FRAME_BYTES, FRAME_BYTES)
        pieces.append(frame(frames.DATA, 0, stream_id, data[:size]))
        data, cuts = data[size:], cuts - 1
    pieces.append(frame(frames.DATA, END_STREAM if draw.randrange(20) else 0, stream_id, data))
    return b"".join(pieces)


def headers(fields: Sequence[tuple[str, str]]) -> bytes:
    """A header block of literals."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


KINDS: dict[str, tuple[int, Callable[[Draw, str], bytes]]] = {
    "grpc-infer": (16, infer),
    "grpc-stream": (3, stream),
    "grpc-models": (4, models),
    "grpc-pipelines": (3, pipelines),
    "grpc-endpoints": (3, endpoints),
    "h2-frames": (6, frames_alone),
}
"""What calls are made of, with their shares."""

_FIELDS = (
    ("grpc-timeout", "1S"), ("grpc-timeout", "99999999H"), ("grpc-timeout", "-1S"), ("grpc-timeout", "0n"),
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "deflate"), ("grpc-encoding", "br"), ("grpc-accept-encoding", "gzip"), ("content-length", "5"),
    ("content-length", "x"),
    ("x-ergonaut-tenant", "other"), ("traceparent", "00-zz"), ("authorization", "x"), (":path", "/x"), ("a" * 200,
    "b" * 9_000), ("te", "gzip"),
    ("grpc-metadata-bin", "!!"), ("connection", "close"), ("", "x"), ("Upper", "x"), ("host", "é"),
)  # fmt: skip


def _string(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 127:
        return bytes((size,)) + raw
    out, size = bytearray(b"\x7f"), size - 127
    while size >= 128:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out) + raw


def _framed(draw: Draw, message: bytes) -> bytes:
    marked, size = 0, len(message)
    kind = draw.randrange(14)
    if kind == 0:
        marked = draw.choice((1, 1, 2, 255))
    elif kind == 1:
        message = gzip.compress(message, mtime=0)
        marked, size = 1, len(message)
    elif kind == 2:
        size = draw.choice((size - 1, size + 1, 0, 2**24, 2**32 - 1)) % 2**32
    return bytes((marked,)) + size.to_bytes(4, "big") + message


def _infer_message(draw: Draw) -> bytes:
    request = _infer_request(draw)
    message = bytes(request.SerializeToString())
    return changed(draw, message) if draw.randrange(2) else message


def _infer_request(draw: Draw) -> oip.ModelInferRequest:
    model = draw.choice(tuple(TYPED))
    datatype, held_by, elements, shape = TYPED[model]
    request = oip.ModelInferRequest(model_name=draw.choice((model,) * 8 + TEXTS), id=draw.choice(TEXTS))
    for _ in range(draw.choice((1, 1, 1, 1, 0, 2))):
        given = request.inputs.add(name="x", datatype=datatype, shape=shape)
        if draw.randrange(2):
            getattr(given.contents, held_by).extend(elements)
        else:
            request.raw_input_contents.append(draw.randbytes(draw.choice((12, 2, 16, 4, 8, 0, 13))))
        if not draw.randrange(3):
            given.shape[:] = [draw.choice(AXES) for _ in range(draw.choice((0, 1, 2, 2, 3, 16, 17)))]
        if not draw.randrange(5):
            given.datatype = draw.choice(DATATYPES)
        if not draw.randrange(8):
            given.parameters[draw.choice(PARAMETERS)].int64_param = draw.choice(AXES)
    if not draw.randrange(4):
        request.parameters[draw.choice(PARAMETERS)].int64_param = draw.choice(AXES)
    if not draw.randrange(4):
        request.outputs.add(name=draw.choice(("y", "z", "", "x"))).parameters["classification"].int64_param = 1
    if not draw.randrange(8):
        request.raw_input_contents.append(b"")
    return request


PIPED = pipes.Pipeline(
    name="piped",
    nodes=[
        pipes.PipelineNode(
            name="main",
            kind=pipes.NODE_KIND_SEQUENCE,
            steps=[
                pipes.PipelineStep(name="once", model="digits"),
                pipes.PipelineStep(name="again", model="digits", inputs={"x": "y"}),
            ],
            outputs=["y"],
        )
    ],
)
"""Doubles twice."""


def _pipeline(draw: Draw) -> Any:
    pipeline = pipes.Pipeline()
    pipeline.CopyFrom(PIPED)
    pipeline.name = draw.choice(("p-1", "p-1", "p-2", *TEXTS))
    for _ in range(draw.randint(0, 3)):
        node = draw.choice(tuple(pipeline.nodes))
        step = draw.choice(tuple(node.steps))
        kind = draw.randrange(9)
        if kind == 0:
            node.kind = draw.randrange(6)
        elif kind == 1:
            step.model = draw.choice(("adding", "id-bytes", "piped", "p-1", *TEXTS))
        elif kind == 2:
            step.node = draw.choice(("main", "other", *TEXTS))
        elif kind == 3:
            step.inputs[draw.choice(TEXTS)] = draw.choice(TEXTS)
        elif kind == 4:
            node.steps.extend([step] * draw.choice((1, 31, 200)))
        elif kind == 5:
            step.weight = draw.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))
        elif kind == 6:
            step.when.op = draw.randrange(9)
            step.when.tensor = draw.choice(("x", *TEXTS))
            step.when.values.add(whole=draw.choice(AXES))
        elif kind == 7:
            node.combine, node.axis = draw.randrange(7), draw.choice((-1, 0, 1, 2**31 - 1))
        else:
            pipeline.nodes.add(name=draw.choice(("main", "other", *TEXTS)), kind=1).steps.add(node="main")
    return pipeline


def _endpoint(draw: Draw, name: str) -> Any:
    if draw.randrange(2):
        return ends.Endpoint(name=name, routes=[ends.Route(name="a", model="digits", version="1", weight=1.0)])
    endpoint = ends.Endpoint(name=name, key_parameter=draw.choice(("", "user", *TEXTS)))
    endpoint.slow_milliseconds = draw.choice((0.0, 5.0, -1.0, float("nan"), float("inf")))
    for _ in range(draw.choice((1, 1, 2, 0, 40))):
        weight = draw.choice((1.0, 1.0, 0.0, -1.0, 1e308, float("nan"), float("inf")))
        model = draw.choice(("digits", "digits", "adding", "piped", "e-1", "e-2", *TEXTS))
        endpoint.routes.add(
            name=draw.choice(("a", "b", *TEXTS)),
            model=model,
            version=draw.choice(("", "1", "9", *TEXTS)),
            weight=weight,
        )
    if not draw.randrange(3):
        endpoint.mirrors.add(model=draw.choice(("digits", *TEXTS)), share=draw.choice((0.5, 0.0, 2.0, float("nan"))))
    return endpoint


def _name(draw: Draw) -> str:
    return draw.choice((*TEXTS, "spare", "digits", "a b", "*", ">", "a.b"))


_ASKS: tuple[tuple[str, Callable[[Draw], Any]], ...] = (
    (INFERENCE + "ModelMetadata", lambda draw: oip.ModelMetadataRequest(name=_name(draw), version=draw.choice(TEXTS))),
    (INFERENCE + "ModelReady", lambda draw: oip.ModelReadyRequest(name=_name(draw), version=draw.choice(TEXTS))),
    (INFERENCE + "ModelConfig", lambda draw: oip.ModelConfigRequest(name=_name(draw))),
    (INFERENCE + "ModelStatistics", lambda draw: oip.ModelStatisticsRequest(name=_name(draw), version=draw.choice(TEXTS))),
    (INFERENCE + "RepositoryIndex", lambda draw: oip.RepositoryIndexRequest(repository_name=_name(draw), ready=True)),
    (INFERENCE + "RepositoryModelLoad", lambda draw: oip.RepositoryModelLoadRequest(model_name=draw.choice(("spare", *TEXTS)))),
    (INFERENCE + "RepositoryModelUnload",
    lambda draw: oip.RepositoryModelUnloadRequest(model_name=draw.choice(("spare", *TEXTS)))),
    (MODELS + "GetModel", lambda draw: pb.GetModelRequest(name=_name(draw), version=draw.choice(TEXTS))),
    (MODELS + "GetModelCard", lambda draw: pb.GetModelCardRequest(name=_name(draw))),
    (MODELS + "DownloadModel", lambda draw: pb.DownloadModelRequest(name=_name(draw), version=draw.choice(TEXTS))),
    (MODELS + "ListModelVersions", lambda draw: pb.ListModelVersionsRequest(name=_name(draw))),
    (MODELS + "SetModelAlias", lambda draw: pb.SetModelAliasRequest(name="spare", alias=draw.choice(TEXTS),
    version=draw.choice(TEXTS))),
    (MODELS + "RemoveModelAlias", lambda draw: pb.RemoveModelAliasRequest(name="spare", alias=draw.choice(TEXTS))),
    (MODELS + "DeployModel", lambda draw: pb.DeployModelRequest(name=_name(draw), run_id=draw.choice(TEXTS))),
    (MODELS + "DeployModel", lambda draw: pb.DeployModelRequest(name="new", chunk=draw.randbytes(40))),
    (MODELS + "DeployModel", lambda draw: pb.DeployModelRequest(name="new", chunk=b"x", signature_bundle=draw.choice(TEXTS))),
)  # fmt: skip


def _any_frame(draw: Draw, key: str) -> bytes:
    stream_id = draw.choice((0, 1, 1, 3, 5, 2, 2**31 - 1))
    kind = draw.randrange(11)
    payload = draw.choice((
        b"", draw.randbytes(draw.randrange(30)), pack(">I", draw.randrange(2**32)), pack(">HI", draw.randrange(8),
        draw.randrange(2**32)),
        b"12345678", b"\0\0\0\0\0", headers([(":method", "POST"), (":scheme", "http"), (":path", INFERENCE + "ServerReady"),
        ("content-type", "application/grpc"), ("authorization", f"Bearer {key}")]),
    ))  # fmt: skip
    return frame(
        kind,
        draw.choice((0, END_HEADERS, END_STREAM, END_HEADERS | END_STREAM, draw.randrange(256))),
        stream_id,
        payload,
    )
